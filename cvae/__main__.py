"""Lets ``python -m cvae`` do what the command ``cvae`` does."""

import sys

from cvae.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
