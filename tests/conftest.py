"""The settings of hypothesis for all tests: no deadline, and the same examples in every run on CI."""

import os

from hypothesis import settings

settings.register_profile("cvae", deadline=None, max_examples=50, derandomize=bool(os.environ.get("CI")))
settings.load_profile("cvae")


def pytest_collection_modifyitems(items):
    """Run the tests that compile or need a package index last: they take longest, and the others tell more."""
    items.sort(key=lambda item: item.get_closest_marker("builds") is not None)
