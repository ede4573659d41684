"""How hypothesis runs: the same examples each time, and no verdict on how fast the machine is.

`HYPOTHESIS_PROFILE=deep` looks further, and elsewhere each time.
"""

import os

from hypothesis import settings


def load() -> None:
    settings.register_profile("steady", deadline=None, derandomize=True, max_examples=60)
    settings.register_profile("deep", deadline=None, max_examples=3000)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
