"""A whole agent of another run, for friends that learn from what it would do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from gymnasium import spaces

from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.friends.context import LoadTeacher, Teacher
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.runs.allocation import no_larger_than
from ppo_and_friends.runs.checkpoint import Checkpoint
from ppo_and_friends.runs.checkpoint_contents import AGENTS, CRITIC_SPACE, MASK_SPACE, restore_agent
from ppo_and_friends.runs.packed import is_packed, unpacked
from ppo_and_friends.runs.saved_experiment import JSON_NAME, load_experiment
from ppo_and_friends.runs.saved_policy import newest_checkpoint
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.vector.space_descriptions import restore

Device = Literal["auto", "cpu", "cuda"]


def teacher_loader(build: Callable[..., Agent], communicator: Communicator, device: Device) -> LoadTeacher:
    """What restores an agent on every rank; rank 0 reads it. A collective.

    Args:
        build: `build.build_agent`.
        communicator: The ranks.
        device: Where the teacher works.
    """

    def load(path: Path) -> Teacher:
        experiment, checkpoint = on_main(communicator, lambda: _read(path))
        identity = checkpoint.state["identity"]
        others: Any = (
            restore(identity[name]) if name in identity else None for name in (CRITIC_SPACE, MASK_SPACE)
        )
        critic_space, mask_space = others
        space = restore(identity["observation_space"])
        assert isinstance(space, spaces.Box)
        with no_larger_than(checkpoint):
            agent = build(
                replace(experiment, device=device),
                space,
                restore(identity["action_space"]),
                SoloCommunicator(),
                Layout(1, 0, 1),
                steps=1,
                critic_space=critic_space,
                mask_space=mask_space,
                agents=tuple(identity.get(AGENTS, ())),
            )
        restore_agent(agent, checkpoint, experiment)
        return Teacher(agent, space)

    return load


def _read(path: Path) -> tuple[Experiment, Checkpoint]:
    if is_packed(path):
        with unpacked(path) as run:
            return _read(run)
    checkpoint = newest_checkpoint(path)
    places = (path, *path.resolve().parents[:2])
    home = next((place for place in places if (place / JSON_NAME).is_file()), path)
    kept = {name: tensor for name, tensor in checkpoint.tensors.items() if not name.startswith("optimizer.")}
    return load_experiment(home), replace(checkpoint, tensors=kept)
