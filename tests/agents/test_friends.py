"""Every friend with several agents, some of which come late or die early; or it is refused by name."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.catalog import BUILT_IN, OF_AGENTS
from ppo_and_friends.settings.experiment import Experiment, friend
from tests.agents.toys import MORTAL, Roles, squad
from tests.engine import on_ranks, trained

ARGUMENTS: dict[str, dict[str, Any]] = {
    "SymmetryAugmentation": {"observation": (1, 2, 3, -4), "action": (3, 2, 1)},
    "SplitObservations": {"exteroceptive": (1,)},
    "Evaluator": {"every": 1, "episodes": 1},
    "SegmentLength": {"steps": 3},
    "SelfPlay": {"save_steps": 60, "play_against_latest_model_ratio": 0.3},
    "Curriculum": {"attributes": {"length": "4,5@80"}},
    "DomainRandomisation": {"scales": {"length": (0.5, 2.0)}},
}
REFUSED = {
    "StateDependentExploration": "StateDependentExploration",  # of choices
    "StdClip": "StdClip",
    "Curriculum": "Curriculum changes what environments are asked for, which the engine 'petting_zoo' can't",
    "DomainRandomisation": "DomainRandomisation changes what environments are asked for",
    "Distillation": "Distillation",  # nothing is hidden from the actor
}


def settings(name: str) -> Experiment:
    return squad(
        friend(name, **ARGUMENTS.get(name, {})),
        make=Roles,
        num_envs=5,
        options={"lives": MORTAL},
        agents={"critic": "own" if name == "SymmetryAugmentation" else "all"},
        precision="float64",
        rollout_timesteps=180,
        minibatch_size=60,
    )


def learned(name: str, size: int) -> tuple[dict[str, Any], dict[str, float]]:
    trainer, metrics = on_ranks(settings(name), size, partial(trained, iterations=2))[0]
    return {key: each.detach().numpy().copy() for key, each in trainer.agent.tensors().items()}, metrics[-1]


@pytest.mark.parametrize("name", [name for name in (*BUILT_IN, *OF_AGENTS) if name not in REFUSED])
def test_ranks_agree(name: str) -> None:
    expected, metrics = learned(name, 1)
    assert np.isfinite([metrics["policy_loss"], metrics["value_loss"], metrics["entropy"]]).all()
    for key, value in learned(name, 2)[0].items():
        np.testing.assert_allclose(value, expected[key], atol=1e-9, rtol=1e-9, err_msg=key)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError) as raised:
        learned(name, 1)
    assert REFUSED[name] in str(raised.value)
