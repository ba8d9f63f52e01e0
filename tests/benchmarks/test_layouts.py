"""The comparison of numbers of ranks can fail."""

import pytest

from benchmarks import layouts
from benchmarks.layouts import says_equal
from ppo_and_friends.errors import UsageError

METRICS = "Metrics: equal in 4 iterations, times aside."
CHECKPOINTS = "Checkpoints: equal bit for bit, 2 checkpoints, the last at 512 timesteps."


@pytest.mark.parametrize(
    ("lines", "equal"),
    [
        ((METRICS, CHECKPOINTS), True),
        (("Policy prey:", METRICS, CHECKPOINTS), True),
        ((METRICS, "Checkpoints: first differ at iteration 2 (256 timesteps): a (...)."), False),
        (("Metrics: first differ in iteration 1: kl (1 and 2).", CHECKPOINTS), False),
        (("Metrics: there has no progress.csv with rows.", CHECKPOINTS), False),
        ((METRICS, "Checkpoints: the runs have none of the same number of timesteps."), False),
        (("Policies differ: prey is in one of the runs only.",), False),
        ((), False),
    ],
)
def test_only_what_was_found_equal_is(lines: tuple[str, ...], equal: bool) -> None:
    assert says_equal("\n".join(lines)) == equal


def test_nothing_to_compare_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "installed", lambda names: ())
    with pytest.raises(UsageError, match="Nothing is left"):
        layouts.campaign(layouts.Options(("SimpleTag",)))
