"""Training runs for the friends' proofs: one process, no files, scores from whole evaluation episodes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import torch

from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.evaluation.evaluate import evaluate
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.build import build_trainer
from ppo_and_friends.settings.experiment import Experiment, FriendSpec
from ppo_and_friends.vector.factory import make_vector_env

torch.set_num_threads(1)


def variant(
    base: Experiment, *friends: FriendSpec, seed: int = 1, timesteps: int | None = None
) -> Experiment:
    """The same experiment with more friends, another seed and another budget."""
    return replace(
        base,
        friends=(*base.friends, *friends),
        random_seed=seed,
        num_timesteps=timesteps or base.num_timesteps,
    )


def train(
    experiment: Experiment, watch: Callable[[Trainer, dict[str, float]], None] = lambda *_: None
) -> Trainer:
    """Train through the budget; ``watch`` sees the trainer and the metrics after each iteration."""
    layout = Layout(experiment.environment.num_envs, 0, experiment.environment.num_envs)
    with closing(make_vector_env(experiment.environment, layout)) as envs:
        trainer = build_trainer(experiment, SoloCommunicator(), envs)
        while trainer.timesteps < experiment.num_timesteps:
            watch(trainer, trainer.train_iteration())
    return trainer


def test_score(trainer: Trainer, episodes: int = 100) -> float:
    """Mean true return of deterministic episodes on the canonical environment."""
    policy, settings = trainer.agent.policy(), trainer.experiment.environment
    return evaluate(policy, settings, episodes=episodes, seed=10_000).mean
