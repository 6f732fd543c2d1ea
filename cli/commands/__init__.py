"""The groups of subcommands: what each takes. What it does is in ``cli`` itself, loaded when it runs."""
