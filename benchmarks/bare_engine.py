"""The bare vector engine under a policy's actions: what training could reach at most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector.factory import make_vector_env
from ppo_and_friends.vector.protocol import VectorEnv


@dataclass(frozen=True)
class Recording:
    """Actions that a policy took, to be repeated by an engine that is seeded alike."""

    settings: EnvironmentSettings
    layout: Layout
    threads: int
    seed: int

    actions: NDArray[Any]
    """[steps, B, *action]."""

    total: float
    """Sum of all rewards."""

    @property
    def steps(self) -> int:
        """How many, of all this rank's environments at once."""
        return len(self.actions)

    def engine(self) -> VectorEnv:
        """Fresh environments, reset as they were when the actions were recorded; to be closed."""
        envs = make_vector_env(self.settings, self.layout, self.threads)
        envs.reset(self.seed)
        return envs

    def replay(self, envs: VectorEnv) -> None:
        """Repeat all actions in ``engine()``'s environments, with none of our code around each step.

        Raises:
            RuntimeError: The episodes weren't the recorded ones.
        """
        step = _raw_step(envs.env)  # type: ignore[attr-defined]
        total = 0.0
        for row in self.actions:
            total += float(step(row)[1].sum())
        if not np.isclose(total, self.total, rtol=1e-3, atol=1e-3):
            raise RuntimeError(f"the engine didn't repeat its episodes: rewards {total}, before {self.total}")


def record(
    trainer: Trainer, settings: EnvironmentSettings, layout: Layout, threads: int, steps: int
) -> Recording:
    """Let the trainer's policy act, as it explores, in fresh environments.

    Args:
        trainer: Whose policy.
        settings: Of the environments.
        layout: Which of them are this rank's.
        threads: The engine's.
        steps: How many, of all environments at once.
    """
    seed = 12_345 + layout.first
    envs = make_vector_env(settings, layout, threads)
    policy = trainer.agent.policy()
    policy.reset(seed)
    observations = envs.reset(seed)
    actions, total = [], 0.0
    for _ in range(steps):
        actions.append(np.array(policy.act(observations, deterministic=False)))
        step = envs.step(actions[-1])
        total += float(step.rewards.sum())
        observations = step.observations
    envs.close()
    return Recording(settings, layout, threads, seed, np.stack(actions), total)


def _raw_step(engine: Any) -> Any:
    """The library's own step, with none of our code around it where there is such a thing."""
    pool = getattr(engine, "_pool", None)
    if pool is not None:
        return pool.step
    return lambda actions: (None, engine.step(actions).rewards)
