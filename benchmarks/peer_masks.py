"""Trains with sb3-contrib's MaskablePPO and evaluates it, in the peer's own virtual environment.

``peer_masks.py SPECIFICATION.json RESULT.json`` for ``masks.py``. The specification is that of
``peer_sb3.py``, and with which seeds to evaluate, one an episode. An env_id may be ``path/to/file.py:Class``.
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
from sb3_contrib import MaskablePPO


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
    if not file.endswith(".py"):
        return Masks(gymnasium.make(spec["env_id"], **spec["env_arguments"]))
    found = importlib.util.spec_from_file_location("own", file)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return Masks(getattr(module, name)(**spec["env_arguments"]))


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
    spec = json.loads(Path(sys.argv[1]).read_text())
    result, model = train(spec, make_env, MaskablePPO)
    result["mean"] = float(np.mean(evaluate(spec, model)))
    Path(sys.argv[2]).write_text(json.dumps(result))
