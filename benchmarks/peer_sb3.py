"""Trains with Stable-Baselines3 or SBX and writes its learning curve, in the peer's own virtual environment.

``peer_sb3.py SPECIFICATION.json RESULT.json``; nothing of this project is imported. The specification:
env_id, env_arguments, n_envs, n_timesteps, ppo (keyword arguments; a pair moves from its first number to the
second one), pi, vf, activation, log_std_init, norm_obs, norm_reward, seed, threads; and if they
aren't the first of these, library (sb3, sbx), engine (gymnasium, envpool), until (a mean score over 100
episodes to stop at), and limit (seconds to stop after); memory (an LSTM's settings).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

EPISODES = 100
MAX_SEED = 2**31 - 1


class EnvPoolVecEnv(VecEnv):  # type: ignore[misc]  # stable_baselines3 isn't installed where types are checked
    """Single-threaded EnvPool environments: a peer gets the engine that our training has.

    Episodes that ended are restarted within the same step.
    """

    def __init__(self, env_id: str, n_envs: int, seed: int) -> None:
        import envpool  # here: not every peer's Python has it

        self.engine = envpool.make_gymnasium(
            env_id, num_envs=n_envs, seed=seed * 1000 % MAX_SEED, num_threads=1
        )
        super().__init__(n_envs, self.engine.observation_space, self.engine.action_space)

    def reset(self) -> np.ndarray[Any, Any]:
        """First observations."""
        return np.array(self.engine.reset()[0])

    def step_async(self, actions: np.ndarray[Any, Any]) -> None:
        """Remember the actions, in the engine's type."""
        self.actions = actions.astype(self.action_space.dtype)

    def step_wait(self) -> tuple[Any, ...]:
        """Step all; an ended episode's final observation goes into its info, as Stable-Baselines3 has it."""
        observations, rewards, terminated, truncated, _ = self.engine.step(self.actions)
        observations, dones = np.array(observations), terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        ended = np.flatnonzero(dones)
        if len(ended):
            for i in ended:
                cut = bool(truncated[i] and not terminated[i])
                infos[i] = {"terminal_observation": observations[i].copy(), "TimeLimit.truncated": cut}
            observations[ended] = self.engine.reset(ended.astype(np.int32))[0]
        return observations, np.asarray(rewards, dtype=np.float32), dones, infos

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Only what Stable-Baselines3 itself asks for."""
        return [None] * self.num_envs

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Nothing is."""
        return [False] * self.num_envs

    def _unused(self, *arguments: Any, **named: Any) -> Any:
        raise NotImplementedError

    set_attr = env_method = _unused

    def close(self) -> None:
        """EnvPool closes itself."""


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


def make_envs(spec: dict[str, Any], make_env: Callable[[dict[str, Any]], Any] | None) -> Any:
    """The environments, with Stable-Baselines3's normaliser if it is asked for."""
    if spec.get("engine", "gymnasium") == "envpool":
        envs: Any = VecMonitor(EnvPoolVecEnv(spec["env_id"], spec["n_envs"], spec["seed"]))
    else:
        # Monitored below the normaliser.
        made = spec["env_id"] if make_env is None else lambda **_: make_env(spec)
        envs = make_vec_env(made, spec["n_envs"], spec["seed"], env_kwargs=spec["env_arguments"])
    if spec["norm_obs"] or spec["norm_reward"]:
        normalise = {"norm_obs": spec["norm_obs"], "norm_reward": spec["norm_reward"]}
        envs = VecNormalize(envs, **normalise, gamma=spec["ppo"]["gamma"])
    return envs


def make_model(spec: dict[str, Any], envs: Any, learner: Any) -> Any:
    """The learner."""
    library, ppo = spec.get("library", "sb3"), dict(spec["ppo"])
    for name, value in ppo.items():
        if isinstance(value, list):
            ppo[name] = LinearSchedule(*value, end_fraction=1.0)
    policy = {
        "net_arch": {"pi": spec["pi"], "vf": spec["vf"]},
        "activation_fn": activation(spec["activation"], library),
    }
    if spec["log_std_init"] is not None:
        policy["log_std_init"] = spec["log_std_init"]
    policy |= spec.get("memory") or {}
    kind = "MlpLstmPolicy" if spec.get("memory") else "MlpPolicy"
    if library == "sbx":
        from sbx import PPO as learner  # noqa: N811
    return learner(kind, envs, policy_kwargs=policy, seed=spec["seed"], device="cpu", **ppo)


def train(
    spec: dict[str, Any], make_env: Callable[[dict[str, Any]], Any] | None = None, learner: Any = PPO
) -> tuple[dict[str, Any], Any]:
    """Train; returns rates and curve, and the model. ``make_env``: instead of the env_id's own."""
    torch.set_num_threads(spec["threads"])
    envs = make_envs(spec, make_env)
    model = make_model(spec, envs, learner)
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
    rates = {"steps_per_second": rate, "steps_per_cpu_second": rate * spent[1] / spent[0]}
    return rates | {"curve": curve}, model


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(train(json.loads(Path(sys.argv[1]).read_text()))[0]))
