"""Rollouts as arrays, for tests that compute with NumPy what the program does with tensors."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from ppo_and_friends.ppo.rollout import Rollout


def arrays(rollout: Rollout) -> Any:
    """The rollout's tensors as arrays that share their memory; ``observations`` is what the policy sees."""
    found = {each.name: _arrays(getattr(rollout, each.name)) for each in fields(rollout)}
    return SimpleNamespace(**found | {"observations": found["observations"]["policy"]})


def _arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _arrays(each) for name, each in value.items()}
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value
