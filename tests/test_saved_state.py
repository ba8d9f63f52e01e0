"""Which saved states fit a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ppo_and_friends.errors import IncompatibleState
from ppo_and_friends.runs.checkpoint import Checkpoint
from ppo_and_friends.runs.checkpoint_contents import check_identity, settings_identity
from ppo_and_friends.settings.experiment import NetworkSettings
from ppo_and_friends.settings.registry import resolve


def saved_by_an_older_version(missing: str) -> Checkpoint:
    identity = settings_identity(resolve("CartPole"))
    del identity["network"][missing]
    return Checkpoint(Path("somewhere"), 1, {}, {"identity": identity}, {})


def test_a_setting_younger_than_the_state_counts_as_its_default() -> None:
    checkpoint = saved_by_an_older_version("half_precision")
    asked = resolve("CartPole")
    check_identity(checkpoint, settings_identity(asked))
    changed = replace(asked, network=NetworkSettings(half_precision=True))
    with pytest.raises(IncompatibleState, match=r"network\.half_precision is True \(saved: False\)"):
        check_identity(checkpoint, settings_identity(changed))
