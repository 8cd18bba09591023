"""The settings of hypothesis for all tests: no deadline, and the same examples in every run on CI."""

import os

from hypothesis import settings

settings.register_profile("cvae", deadline=None, max_examples=50, derandomize=bool(os.environ.get("CI")))
settings.load_profile("cvae")
