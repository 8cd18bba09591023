"""Compare cvae with other frameworks on this machine: `python benchmarks/compare.py`.

README.md describes what is measured and how.
"""

import sys

if __name__ == "__main__":  # the workers import this file too, and must not import other frameworks
    from command import main

    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
