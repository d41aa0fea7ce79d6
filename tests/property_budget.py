"""Number of examples that hypothesis tries for each property, by profile.

$HYPOTHESIS_PROFILE chooses a profile: ``fast`` (``scripts/test --fast``), ``default``, ``ci`` with
the full budget, or ``explore``. All but the last try the same examples in every run, so that a
failure is due to a change. To find new ones:
``HYPOTHESIS_PROFILE=explore scripts/test --randomly-seed=default``.
"""

import os
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import settings

PERCENTAGES = {"fast": 10, "default": 30, "ci": 100, "explore": 100}
"""Share of the full budget of each profile; hypothesis tries 100 examples by default."""

MIN_EXAMPLES = 5


Case = TypeVar("Case")


def load_profile() -> None:
    """Register the profiles and load the chosen one; tests are imported after this."""
    for name, percentage in PERCENTAGES.items():
        settings.register_profile(
            name,
            max_examples=percentage,
            derandomize=name != "explore",
            print_blob=name == "explore",
            deadline=None,
        )
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def examples(full: int) -> int:
    """Return the number of examples of a test that has a given number in the full budget."""
    return max(MIN_EXAMPLES, full * settings.default.max_examples // 100)


def share_of(cases: Sequence[Case], start: int = 0) -> Sequence[Case]:
    """Return the share of the cases of an exhaustive test that the profile tries.

    Args:
        cases: All cases, which the full budget tries.
        start: Number of the first case to return; tests with several parameters number them, so
            that each parameter gets other cases.
    """
    step = max(1, 100 // settings.default.max_examples)
    return cases[start % step :: step]
