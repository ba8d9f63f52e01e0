"""Trains with Stable-Baselines3 or SBX and writes its learning curve, in the peer's own virtual environment.

``peer_sb3.py SPECIFICATION.json RESULT.json``; nothing of this project is imported. The specification:
env_id, env_arguments, n_envs, n_timesteps, ppo (keyword arguments; a pair as learning rate falls from the
first to the second), pi, vf, activation, log_std_init, norm_obs, norm_reward, seed, threads; and if they
aren't the first of these, library (sb3, sbx, maskable), engine (gymnasium, envpool), until (a mean score over
100 episodes to stop at), limit (seconds to stop after), and with which seeds to evaluate it, one an episode.
An env_id may be ``path/to/file.py:Class``.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

EPISODES = 100


class Masks(gymnasium.Wrapper):
    """Says which actions are legal as sb3-contrib asks for it."""

    def reset(self, **arguments: Any) -> Any:
        observation, info = self.env.reset(**arguments)
        self.mask = info["action_mask"]
        return observation, info

    def step(self, action: Any) -> Any:
        result = self.env.step(action)
        self.mask = result[-1]["action_mask"]
        return result

    def action_masks(self) -> Any:
        return self.mask


def make_env(spec: dict[str, Any]) -> Any:
    """One environment."""
    file, _, name = spec["env_id"].rpartition(":")
    if file.endswith(".py"):
        found = importlib.util.spec_from_file_location("own", file)
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        env = getattr(module, name)(**spec["env_arguments"])
    else:
        env = gymnasium.make(spec["env_id"], **spec["env_arguments"])
    return Masks(env) if spec.get("library") == "maskable" else env


class Watch(BaseCallback):
    """Notes steps, seconds and mean score of 100 episodes at each rollout, and stops where it is told to."""

    def __init__(self, until: float | None, limit: float | None) -> None:
        super().__init__()
        self.until, self.limit = until, limit
        self.rows: list[tuple[int, float, float | None]] = []
        self.began = time.perf_counter()

    def note(self) -> None:
        buffer = self.model.ep_info_buffer
        score = float(np.mean([episode["r"] for episode in buffer])) if buffer else None
        self.rows.append((self.num_timesteps, time.perf_counter() - self.began, score))

    def _on_step(self) -> bool:
        # Asked at each step, and answered by the last rollout's end.
        _, seconds, score = self.rows[-1]
        done = self.until is not None and score is not None and score >= self.until
        return not (done and len(self.model.ep_info_buffer) >= EPISODES) and (
            self.limit is None or seconds < self.limit
        )

    def _on_rollout_start(self) -> None:
        self.note()


def activation(name: str, library: str) -> Any:
    """A library's class or function of an activation."""
    if library == "sbx":
        import flax.linen

        return getattr(flax.linen, name)
    return {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU, "elu": torch.nn.ELU}[name]


def make_envs(spec: dict[str, Any]) -> Any:
    """The environments, with Stable-Baselines3's normaliser if it is asked for."""
    if spec.get("engine", "gymnasium") == "envpool":
        from peer_engine import EnvPoolVecEnv

        envs: Any = EnvPoolVecEnv(spec["env_id"], spec["n_envs"], spec["seed"])
    else:
        # Monitored below the normaliser.
        envs = make_vec_env(partial(make_env, spec), n_envs=spec["n_envs"], seed=spec["seed"])
    if spec["norm_obs"] or spec["norm_reward"]:
        normalise = {"norm_obs": spec["norm_obs"], "norm_reward": spec["norm_reward"]}
        envs = VecNormalize(envs, **normalise, gamma=spec["ppo"]["gamma"])
    return envs


def make_model(spec: dict[str, Any], envs: Any) -> Any:
    """The learner."""
    library, ppo = spec.get("library", "sb3"), dict(spec["ppo"])
    if isinstance(ppo["learning_rate"], list):
        first, last = ppo["learning_rate"]
        ppo["learning_rate"] = lambda remaining: last + remaining * (first - last)
    policy = {
        "net_arch": {"pi": spec["pi"], "vf": spec["vf"]},
        "activation_fn": activation(spec["activation"], library),
        "log_std_init": spec["log_std_init"],
    }
    if library == "sbx":
        from sbx import PPO
    elif library == "maskable":
        import sb3_contrib

        PPO = sb3_contrib.MaskablePPO  # noqa: N806
        del policy["log_std_init"]  # there are none
    else:
        from stable_baselines3 import PPO
    return PPO("MlpPolicy", envs, policy_kwargs=policy, seed=spec["seed"], device="cpu", **ppo)


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Train; returns rate and curve."""
    torch.set_num_threads(spec["threads"])
    envs = make_envs(spec)
    model = make_model(spec, envs)
    watch = Watch(spec.get("until"), spec.get("limit"))
    began = time.process_time(), time.perf_counter()
    model.learn(spec["n_timesteps"], callback=watch)
    watch.note()
    spent = time.process_time() - began[0], time.perf_counter() - began[1]
    envs.close()
    # The first rollout warms up.
    (before, start, _), (after, end, _) = watch.rows[min(1, len(watch.rows) - 2)], watch.rows[-1]
    curve = [row for row in watch.rows if row[2] is not None]
    rate = (after - before) / (end - start)
    result = {"steps_per_second": rate, "steps_per_cpu_second": rate * spent[1] / spent[0], "curve": curve}
    if "evaluate" in spec:
        result["mean"] = float(np.mean(evaluate(spec, model)))
    return result


def evaluate(spec: dict[str, Any], model: Any) -> list[float]:
    """Returns of episodes with the most probable legal actions."""
    env, returns = make_env(spec), []
    for seed in spec["evaluate"]:
        observation, _ = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            action, _ = model.predict(observation, action_masks=env.action_masks(), deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(action[()])
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return returns


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(train(json.loads(Path(sys.argv[1]).read_text()))))
