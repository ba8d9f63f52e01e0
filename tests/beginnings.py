"""What runs can begin with: another run, and episodes that somebody has played."""

from __future__ import annotations

import atexit
import copy
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

from ppo_and_friends.runs.checkpoint import save_checkpoint
from ppo_and_friends.runs.checkpoint_contents import capture
from ppo_and_friends.runs.saved_experiment import save_experiment
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.plain import is_plain
from tests.friends.runs import build

FOLDERS = tempfile.TemporaryDirectory()
atexit.register(FOLDERS.cleanup)


def begun(chosen: Experiment) -> str:
    """The folder of a run of one iteration."""
    folder = Path(tempfile.mkdtemp(dir=FOLDERS.name))
    trainer = build(chosen)
    with closing(trainer.collector.envs):
        trainer.train_iteration()
        save_checkpoint(folder / "checkpoints", trainer.timesteps, *capture(trainer, 1.0))
        if is_plain(chosen):
            save_experiment(folder, chosen, [])
    return str(folder)


class Privileged(gymnasium.Env[Any, Any]):
    """A goal, and the same with noise; the action nearest to it is rewarded; 5 steps."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            blurred=spaces.Box(-np.inf, np.inf, (2,)), goal=spaces.Box(-np.inf, np.inf, (2,))
        )
        self.action_space = spaces.Box(-1.0, 1.0, (2,))

    def _observe(self) -> Any:
        self.goal = self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32)
        blurred = self.goal + 0.1 * self.np_random.normal(size=2).astype(np.float32)
        return {"blurred": blurred, "goal": self.goal}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        reward = -float(np.abs(action - self.goal).sum())
        return self._observe(), reward, False, self.t == 5, {}


class Played:
    """Episodes of random actions, in the form of a Minari data set."""

    def __init__(self, make: Callable[[], Any], episodes: int = 2, steps: int = 12) -> None:
        """Make the environment anew, so that it plays the same each time."""
        self.env, self.count, self.steps = make(), episodes, steps
        self.observation_space, self.action_space = self.env.observation_space, self.env.action_space

    def iterate_episodes(self) -> Iterator[Any]:
        actions = copy.deepcopy(self.action_space)
        actions.seed(0)
        for index in range(self.count):
            observation, _ = self.env.reset(seed=index)
            seen, done, rewards = [observation], [], []
            for _ in range(self.steps):
                done.append(actions.sample())
                observation, reward, ended, cut, _ = self.env.step(copy.deepcopy(done[-1]))
                seen.append(observation)
                rewards.append(reward)
                if ended or cut:
                    break
            yield SimpleNamespace(
                observations=_stacked(self.observation_space, seen),
                actions=_stacked(self.action_space, done),
                rewards=np.array(rewards),
            )


def _stacked(space: Any, values: list[Any]) -> Any:
    return concatenate(space, values, create_empty_array(space, len(values)))


def played(make: Callable[[], Any]) -> str:
    """The name of a data set of an environment, as ``module:function``."""
    module = sys.modules[__name__]
    name = f"data_{sum(each.startswith('data_') for each in vars(module))}"
    setattr(module, name, partial(Played, make))
    return f"{__name__}:{name}"
