"""Trains with Stable-Baselines3 and writes what it measured. Runs in the peer's own virtual environment.

``peer_sb3.py SPECIFICATION.json RESULT.json``; nothing of this project is imported. The specification:
env_id, n_envs, n_timesteps (of the schedules), ppo (keyword arguments; [start, end] is a linear schedule),
net, norm_obs, norm_reward, atari; where to stop: seconds, timesteps, target (mean of 100 training episodes);
seed, threads, processes (a process for each environment).
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecNormalize

ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU, "elu": torch.nn.ELU}
EPISODES = 100


class Watch(BaseCallback):
    """Notes time, steps and score at each rollout; stops where the specification says."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        self.spec = spec
        self.rows: list[tuple[int, float, float | None]] = []
        self.began = time.perf_counter()
        self.reached: dict[str, float] | None = None

    def _on_training_start(self) -> None:
        self.began = time.perf_counter()

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.spec.get("timesteps", float("inf")):
            return False
        # Only where an episode ended: looking at every step would slow it down.
        if self.reached is None and "target" in self.spec and self.locals["dones"].any():
            self._look(self._score())
        return not (self.reached or time.perf_counter() - self.began > self.spec.get("seconds", float("inf")))

    def _look(self, score: float | None) -> None:
        buffer = self.model.ep_info_buffer
        if score is not None and len(buffer) >= EPISODES and score >= self.spec["target"]:
            seconds = time.perf_counter() - self.began
            self.reached = {"timesteps": self.num_timesteps, "seconds": seconds, "score": score}

    def _score(self) -> float | None:
        buffer = self.model.ep_info_buffer
        return float(np.mean([episode["r"] for episode in buffer])) if buffer else None

    def _on_rollout_start(self) -> None:
        self.rows.append((self.num_timesteps, time.perf_counter() - self.began, self._score()))


def schedule(value: Any) -> Any:
    """A number, or a line from the first to the second over the training."""
    if not isinstance(value, list):
        return value
    start, end = value
    return lambda remaining: end + (start - end) * remaining


def make_envs(spec: dict[str, Any]) -> Any:
    """The environments as the zoo makes them: monitored below every wrapper that changes rewards."""
    kind = SubprocVecEnv if spec.get("processes") else DummyVecEnv
    if spec.get("atari"):
        import ale_py
        import gymnasium

        gymnasium.register_envs(ale_py)
        env_id = spec["env_id"]
        envs = make_atari_env(env_id, n_envs=spec["n_envs"], seed=spec.get("seed", 1), vec_env_cls=kind)
        return VecFrameStack(envs, 4)
    envs = make_vec_env(
        spec["env_id"],
        n_envs=spec["n_envs"],
        seed=spec.get("seed", 1),
        vec_env_cls=kind,
        env_kwargs=spec.get("env_arguments") or None,
    )
    if spec.get("norm_obs") or spec.get("norm_reward"):
        envs = VecNormalize(
            envs,
            norm_obs=bool(spec.get("norm_obs")),
            norm_reward=bool(spec.get("norm_reward")),
            gamma=spec.get("ppo", {}).get("gamma", 0.99),
        )
    return envs


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Train; returns rate, curve, and when the target was reached."""
    torch.set_num_threads(spec.get("threads", 1))
    ppo = {key: schedule(value) for key, value in spec.get("ppo", {}).items() if value is not None}
    policy: dict[str, Any] = {}
    if "net" in spec and not spec.get("atari"):
        net = spec["net"]
        policy = {
            "net_arch": {"pi": net["pi"], "vf": net["vf"]},
            "activation_fn": ACTIVATIONS[net["activation"]],
            "log_std_init": net["log_std_init"],
            "ortho_init": net["ortho_init"],
        }
    envs = make_envs(spec)
    model = PPO(
        "CnnPolicy" if spec.get("atari") else "MlpPolicy",
        envs,
        policy_kwargs=policy or None,
        seed=spec.get("seed", 1),
        device="cpu",
        **ppo,
    )
    watch = Watch(spec)
    model.learn(spec["n_timesteps"], callback=watch)
    rows = [*watch.rows, (model.num_timesteps, time.perf_counter() - watch.began, watch._score())]
    # The first rollout warms up; what was cut off by the end isn't counted where whole ones are there.
    measured = rows[1:-1] if len(rows) >= 4 else rows[1:] if len(rows) > 2 else rows
    (first_steps, first_time, _), (steps, seconds, _) = measured[0], measured[-1]
    envs.close()
    return {
        "timesteps": model.num_timesteps,
        "seconds": rows[-1][1],
        "steps_per_second": (steps - first_steps) / (seconds - first_time),
        "curve": [row for row in rows if row[2] is not None],
        "reached": watch.reached,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(train(json.loads(Path(sys.argv[1]).read_text()))))
