"""Trains with Stable-Baselines3 and writes its learning curve. Runs in the peer's own virtual environment.

``peer_sb3.py SPECIFICATION.json RESULT.json``; nothing of this project is imported. The specification:
env_id, env_arguments, n_envs, n_timesteps, ppo (keyword arguments), pi, vf, activation, log_std_init,
norm_obs, norm_reward, seed, threads.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU, "elu": torch.nn.ELU}


class Watch(BaseCallback):
    """Notes steps, seconds and mean score of 100 episodes at each rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, float, float | None]] = []
        self.began = time.perf_counter()

    def note(self) -> None:
        buffer = self.model.ep_info_buffer
        score = float(np.mean([episode["r"] for episode in buffer])) if buffer else None
        self.rows.append((self.num_timesteps, time.perf_counter() - self.began, score))

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self.note()


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Train; returns rate and curve."""
    torch.set_num_threads(spec["threads"])
    how = {"seed": spec["seed"], "env_kwargs": spec["env_arguments"] or None}
    envs = make_vec_env(spec["env_id"], n_envs=spec["n_envs"], **how)  # monitored below the normaliser
    if spec["norm_obs"] or spec["norm_reward"]:
        normalise = {"norm_obs": spec["norm_obs"], "norm_reward": spec["norm_reward"]}
        envs = VecNormalize(envs, **normalise, gamma=spec["ppo"]["gamma"])
    policy = {
        "net_arch": {"pi": spec["pi"], "vf": spec["vf"]},
        "activation_fn": ACTIVATIONS[spec["activation"]],
        "log_std_init": spec["log_std_init"],
    }
    model = PPO("MlpPolicy", envs, policy_kwargs=policy, seed=spec["seed"], device="cpu", **spec["ppo"])
    watch = Watch()
    model.learn(spec["n_timesteps"], callback=watch)
    watch.note()
    envs.close()
    # The first rollout warms up.
    (before, start, _), (after, end, _) = watch.rows[min(1, len(watch.rows) - 2)], watch.rows[-1]
    curve = [row for row in watch.rows if row[2] is not None]
    return {"steps_per_second": (after - before) / (end - start), "curve": curve}


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(train(json.loads(Path(sys.argv[1]).read_text()))))
