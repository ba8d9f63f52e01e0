"""Numbers out of all proportion: a run learns on, or names the cause, and never saves what is unusable."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from benchmarks.fault_cases import Case, Ended, complete, in_child, newest, run_folder
from ppo_and_friends import load_policy
from ppo_and_friends.common.tensors import is_finite
from ppo_and_friends.errors import PPOError

TIMESTEPS = 2_000


class Extreme(gymnasium.Env[Any, Any]):
    """Observes noise of some size; action 1 is rewarded; ends after some steps, or never."""

    def __init__(
        self, size: float = 1.0, reward: float = 1.0, steps: int = 20, continuous: bool = False, **_: Any
    ) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,)) if continuous else spaces.Discrete(2)
        self.size, self.reward, self.steps, self.t = size, reward, steps, 0

    def _observe(self) -> Any:
        return (self.size * self.np_random.standard_normal(3)).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        good = float(np.asarray(action).reshape(-1)[0] > 0)
        return self._observe(), self.reward * good, self.t == self.steps, False, {}


gymnasium.register("Extreme-v0", entry_point=Extreme)

CASES: dict[str, tuple[str, ...]] = {
    "a learning rate of 1e3": ("ppo.learning_rate=1e3",),
    "a learning rate of 1e30": ("ppo.learning_rate=1e30",),
    "a learning rate of 1e300, a gradient step an iteration": (
        "ppo.learning_rate=1e300",
        "ppo.minibatch_size=256",
        "ppo.epochs=1",
    ),
    "rewards of 1e30": ("environment.arguments.reward=1e30",),
    "observations of 1e20": ("environment.arguments.size=1e20",),
    "observations of 1e38": ("environment.arguments.size=1e38",),
    "observations that never vary": ("environment.arguments.size=0",),
    "rewards that are all 0": ("environment.arguments.reward=0",),
    "episodes of one step": ("environment.arguments.steps=1",),
    "episodes that never end": ("environment.arguments.steps=-1",),
}
"""What is out of proportion, and the settings that make it so."""

FRIENDS = ((), ("--with=ObservationNormalizer", "--with=RewardNormalizer", "--with=PopArt"))


def numerics(rounds: int, chance: random.Random) -> list[Case]:
    """Each case on its own, and with normalisers; with discrete and with continuous actions."""
    cases = []
    for name, settings in CASES.items():
        case = Case(name, "learns on, or stops with the cause named; no checkpoint that can't act")
        for _ in range(rounds):
            for friends in FRIENDS:
                with tempfile.TemporaryDirectory() as place:
                    continuous = chance.random() < 0.5
                    given = (*settings, f"environment.arguments.continuous={continuous}")
                    case.judge(tried(Path(place), friends, given))
        cases.append(case)
    return cases


def asked(home: Path, timesteps: int, friends: tuple[str, ...], settings: tuple[str, ...]) -> list[str]:
    """Arguments of a small run with a checkpoint each iteration and a best policy."""
    small = (
        "checkpoint_seconds=0",
        "ppo.rollout_timesteps=256",
        "ppo.minibatch_size=64",
        "network.actor_hidden=16",
        "network.critic_hidden=16",
    )
    return [
        "--environment=benchmarks.faults_numerics:Extreme-v0",
        f"--run_folder={run_folder(home)}",
        f"--num_timesteps={timesteps}",
        "--num_envs=4",
        "--no_tensorboard",
        "--with=BestPolicyKeeper",
        *friends,
        *(f"--set={setting}" for setting in (*small, *settings)),
    ]


def tried(home: Path, friends: tuple[str, ...], settings: tuple[str, ...]) -> str | None:
    """Train, and say what is wrong with how it ended or with what it saved."""
    ended = in_child(asked(home, TIMESTEPS, friends, settings))
    problem = _end(ended) or (complete(home, TIMESTEPS) if ended.status == 0 else None)
    return problem or _saved(home, ended)


def _end(ended: Ended) -> str | None:
    last = ended.text.strip().splitlines()[-1:]
    if ended.complaint or ended.status not in (0, 1):
        return ended.complaint or f"status {ended.status}: {last}"
    told = " ".join(ended.text.split())
    if ended.status == 1 and "finite" not in told:
        return f"the cause isn't named: {last}"
    return None


def _saved(home: Path, ended: Ended) -> str | None:
    last = newest(home)
    if last is None:
        return None if ended.status == 1 else "nothing saved"
    if last.notes:
        return last.notes[0]
    wrong = [
        name for name, each in last.tensors.items() if not name.startswith("friends.") and not is_finite(each)
    ]
    if wrong:
        return f"{wrong[0]} isn't finite"
    for folder in (run_folder(home), run_folder(home) / "best"):
        try:
            if folder.name != "best" or folder.is_dir():
                policy = load_policy(folder)
                action = policy(np.zeros((5, 3), np.float32))
                if not np.isfinite(action).all():
                    return f"the policy in {folder.name} acts with {action}"
        except PPOError as error:
            return f"{folder.name}: {error}"
    return None
