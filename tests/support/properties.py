"""Profiles of hypothesis: `steady` runs the same examples each time, without a deadline for an example.

`HYPOTHESIS_PROFILE=deep` runs more examples, and other ones each time.
"""

import os

from hypothesis import settings


def load() -> None:
    """Load the profile that the environment names."""
    settings.register_profile("steady", deadline=None, derandomize=True, max_examples=60)
    settings.register_profile("deep", deadline=None, max_examples=3000)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
