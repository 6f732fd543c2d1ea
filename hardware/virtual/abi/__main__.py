"""``python -m hardware.virtual.abi --out DIR``: build the simulated libaxcl_rt.so."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hardware.virtual.abi.build import SONAME, CannotBuild, build


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hardware.virtual.abi", description=str(__doc__))
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the library goes")
    parser.add_argument("--soname", default=SONAME, help="its name, also inside it (default %(default)s)")
    parser.add_argument(
        "--without", action="append", default=[], metavar="FUNCTION", help="leave a function out; repeatable"
    )
    options = parser.parse_args(arguments)
    try:
        library = build(options.out, soname=options.soname, without=options.without)
    except (CannotBuild, ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{library}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
