"""Trains with Sample-Factory. Runs in the peer's own virtual environment: ``peer_sf.py [its own options]``.

Nothing of this project is imported. Environments are registered where they are imported by the processes
that Sample-Factory starts; rewards are left as they are.
"""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
from sample_factory.envs.env_utils import register_env
from sample_factory.train import run_rl

IDS = (
    "CartPole-v1",
    "LunarLander-v2",
    "BipedalWalker-v3",
    "Hopper-v4",
    "HalfCheetah-v4",
    "Ant-v4",
    "Humanoid-v4",
)


def make(name: str, cfg: Any = None, env_config: Any = None, render_mode: str | None = None) -> Any:
    return gymnasium.make(name, render_mode=render_mode)


for _id in IDS:
    register_env(_id, make)


def main() -> int:
    arguments = sys.argv[1:]
    parser, _ = parse_sf_args(arguments)
    return int(run_rl(parse_full_cfg(parser, arguments)))


if __name__ == "__main__":
    sys.exit(main())
