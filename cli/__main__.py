"""``python -m cli``: what ``./hearth`` hands over to."""

from cli.main import main

main()
