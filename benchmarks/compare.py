"""Compares cvae with other frameworks on this machine: `python benchmarks/compare.py`.

README.md beside this file says what is measured and how.
"""

import sys

if __name__ == "__main__":  # the frameworks' processes import this file too, and should hold nothing but their own
    from command import main

    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
