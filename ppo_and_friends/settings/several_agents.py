"""Settings of environments with several agents."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class AgentSettings:
    """What agents in one environment share. Read only where ``environment.api`` is ``petting_zoo``."""

    critic: Literal["own", "all", "state"] = "own"
    """What the critic sees in training: its agent's own observation (IPPO, arXiv:2011.09533); that, followed
    by the other agents'; or that, followed by the environment's ``state()`` (MAPPO, arXiv:2103.01955). The
    actor sees its own observation alone."""

    reward: Literal["own", "team"] = "own"
    """What an agent learns from: its own reward, or the mean of those of the agents that acted. Reported are
    their own in either case."""

    truncation: Literal["bootstrap", "terminate"] = "bootstrap"
    """What it means to the training that the environment truncates an episode: it would have gone on, so that
    the value of its last observation counts; or the time limit belongs to the task, and nothing comes
    after it."""
