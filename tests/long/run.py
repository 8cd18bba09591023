"""What takes too long for every run, or needs what few machines have: `python tests/long/run.py [NAME ...]`.

Names are those of the files beside this one, such as fuzz; without one, all of them run. Each file says what it needs.
"""

import argparse
import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.py") if "\ndef test_" in path.read_text(encoding="utf-8"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument(
        "--minutes", type=float, default=6, help="for which to fuzz, and to kill (default: %(default)g)"
    )
    parser.add_argument(
        "--keep", default="build", metavar="DIR", help="what later runs go on from (default: %(default)s)"
    )
    args = parser.parse_args()
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"must be among {', '.join(NAMES)}, got {', '.join(sorted(unknown))}")
    os.environ |= {"CVAE_LONG_MINUTES": str(args.minutes), "CVAE_LONG_KEEP": os.path.abspath(args.keep)}
    return pytest.main(["-rP", "-p", "no:cacheprovider", *(str(HERE / f"{name}.py") for name in args.names or NAMES)])


if __name__ == "__main__":
    sys.exit(main())
