"""How hypothesis runs in all tests: without time limits, and on CI always with the same examples."""

import os

from hypothesis import settings

settings.register_profile("cvae", deadline=None, max_examples=50, derandomize=bool(os.environ.get("CI")))
settings.load_profile("cvae")
