"""Environments and friends that do what a test asks for, by names that the command line takes.

``-e tests.toys:Toy-v0 --set environment.arguments.fault=nan_reward`` and the like.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from ppo_and_friends.distributed.launch import mpi_launcher_rank
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.ppo.hooks import RolloutRequest

NAME = "tests.toys:Toy-v0"
FOLDER = "tests.toys-Toy-v0"


class Toy(gymnasium.Env[Any, Any]):
    """Observes where it is; action 1 moves right, for a reward; ends after 20 steps.

    At step ``at`` of each environment on rank ``rank`` (None: all), ``fault`` happens; the time is
    then written to the file ``witness``.
    """

    def __init__(
        self,
        fault: str = "",
        at: int = 100,
        rank: int | None = None,
        size: int = 3,
        witness: str = "",
        pause: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        self.observation_space = spaces.Box(-10.0, 10.0, (size,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.fault, self.at, self.witness, self.pause = fault, at, witness, pause
        self.faulty = bool(fault) and rank in (None, mpi_launcher_rank())
        self.size, self.steps, self.t, self.place = size, 0, 0, 0.0

    def _observe(self) -> Any:
        observation = np.zeros(self.size, np.float32)
        observation[:2] = self.place, self.t / 20
        return observation

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is None:
            self.steps += 1  # an automatic reset takes the place of a step
            if self.faulty and self.fault == "raise_in_reset" and self.steps >= self.at:
                self._testify()
                raise RuntimeError("the track is flooded")
        self.t, self.place = 0, float(self.np_random.uniform(-1, 1))
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        time.sleep(self.pause)
        self.steps += 1
        self.t += 1
        self.place += 0.1 * (2 * int(action) - 1)
        observation: Any = self._observe()
        reward: Any = float(action)
        over = self.t >= 20
        if self.faulty and self.steps == self.at and self.fault != "raise_in_reset":
            self._testify()
            match self.fault:
                case "raise":
                    raise ZeroDivisionError("the wheel came off")
                case "nan_reward":
                    reward = float("nan")
                case "text_reward":
                    reward = "much"
                case "nan_observation":
                    observation[1] = np.nan
                case "infinite_observation":
                    observation[2] = np.inf
                case "shape":
                    observation = np.zeros(self.size + 1, np.float32)
                case "dtype":
                    observation = np.array(["x"] * self.size)
                case "flag":
                    over = "yes"  # type: ignore[assignment]
                case "three_values":
                    return observation, reward, over  # type: ignore[return-value]
                case "die":
                    os._exit(9)
                case "exit":
                    sys.exit(0)
                case "stop_main":
                    os.kill(os.getpid(), signal.SIGSTOP)
                case "hang":
                    time.sleep(1000)
        return observation, reward, False, over, {"is_success": self.place > 0, "place": {"x": self.place}}

    def close(self) -> None:
        if self.faulty and self.fault == "hang_in_close":
            time.sleep(1000)

    def _testify(self) -> None:
        if self.witness:
            with open(self.witness, "w") as file:
                file.write(str(time.time()))


class Unsupported(gymnasium.Env[Any, Any]):
    """Has the spaces it is told; must be refused before it is used."""

    def __init__(self, observation: Any = None, action: Any = None, **_: Any) -> None:
        box = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = box if observation is None else observation
        self.action_space = spaces.Discrete(2) if action is None else action

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        raise AssertionError("it was started")


UNSUPPORTED: dict[str, dict[str, spaces.Space[Any]]] = {
    "TextObservation": {"observation": spaces.Text(5)},
    "SequenceObservation": {"observation": spaces.Sequence(spaces.Discrete(3))},
    "GraphObservation": {"observation": spaces.Graph(spaces.Box(-1, 1, (2,)), spaces.Discrete(2))},
    "EmptyDict": {"observation": spaces.Dict()},
    "HugeDiscrete": {"observation": spaces.Discrete(1_000_000)},
    "NestedTextAction": {"action": spaces.Dict(left=spaces.Discrete(2), word=spaces.Text(3))},
    "TextAction": {"action": spaces.Text(3)},
    "SequenceAction": {"action": spaces.Sequence(spaces.Discrete(3))},
}

gymnasium.register("Toy-v0", entry_point=Toy)
for _name, _spaces in UNSUPPORTED.items():
    gymnasium.register(f"{_name}-v0", entry_point=Unsupported, kwargs=_spaces)


class SignalAt(Friend):
    """Sends this process a signal, as Ctrl-C or a killer would, in the midst of an iteration."""

    source = "tests"
    only_watches = True

    def __init__(
        self, iteration: int = 3, number: int = int(signal.SIGINT), times: int = 1, rank: int | None = None
    ) -> None:
        super().__init__()
        self.rank = rank
        self.iteration, self.number, self.times = iteration, number, times

    def before_rollout(self, request: RolloutRequest) -> None:
        if request.iteration == self.iteration and self.rank in (None, mpi_launcher_rank()):
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


class Broken(Friend):
    """A mistake in a friend: no message of ours, so its traceback is what helps."""

    def before_rollout(self, request: RolloutRequest) -> None:
        raise LookupError("friendless")


class Exits(Friend):
    """Ends the program in silence."""

    def before_rollout(self, request: RolloutRequest) -> None:
        sys.exit(0)


class Presses(Friend):
    """Behaves as if the user had pressed Ctrl-C."""

    def before_rollout(self, request: RolloutRequest) -> None:
        raise KeyboardInterrupt


class Unequal(Friend):
    """Forgets to merge its statistics over the ranks."""

    def setup(self, context: Any) -> None:
        super().setup(context)
        self.count = self.statistic("count", np.zeros(1))

    def after_rollout(self, rollout: Any) -> None:
        self.count += self.context.communicator.rank
