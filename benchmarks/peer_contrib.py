"""Trains with sb3-contrib's MaskablePPO or RecurrentPPO and evaluates it, in the peer's own environment.

``peer_contrib.py SPECIFICATION.json RESULT.json`` for ``contrib.py``. The specification is that of
``peer_sb3.py``, and: evaluate, the seeds of the episodes after training; memory, sb3-contrib's settings of an
LSTM, or null for masks; wrapper, or null. An env_id or wrapper may be ``path/to/file.py:Class``.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from peer_sb3 import train
from sb3_contrib import MaskablePPO, RecurrentPPO


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


def load(target: str) -> Any:
    """A class of a file."""
    file, _, name = target.rpartition(":")
    found = importlib.util.spec_from_file_location("own", file)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return getattr(module, name)


def make_env(spec: dict[str, Any]) -> Any:
    """One environment."""
    own = spec["env_id"].rpartition(":")[0].endswith(".py")
    make = load(spec["env_id"]) if own else lambda **given: gymnasium.make(spec["env_id"], **given)
    env = make(**spec["env_arguments"])
    if spec["wrapper"]:
        env = load(spec["wrapper"])(env)
    return env if spec["memory"] else Masks(env)


def evaluate(spec: dict[str, Any], model: Any) -> list[float]:
    """Returns of episodes with the most probable (legal) actions, observations normalised as in training."""
    env, returns, normaliser = make_env(spec), [], model.get_vec_normalize_env()
    for seed in spec["evaluate"]:
        observation, _ = env.reset(seed=seed)
        total, over, state, start = 0.0, False, None, np.ones(1, bool)
        while not over:
            if normaliser is not None:
                observation = normaliser.normalize_obs(observation)
            how = (
                {"state": state, "episode_start": start}
                if spec["memory"]
                else {"action_masks": env.action_masks()}
            )
            action, state = model.predict(observation, deterministic=True, **how)
            observation, reward, terminated, truncated, _ = env.step(action[()])
            start = np.zeros(1, bool)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return returns


if __name__ == "__main__":
    spec = json.loads(Path(sys.argv[1]).read_text())
    result, model = train(spec, make_env, RecurrentPPO if spec["memory"] else MaskablePPO)
    result["mean"] = float(np.mean(evaluate(spec, model)))
    Path(sys.argv[2]).write_text(json.dumps(result))
