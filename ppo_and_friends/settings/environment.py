"""The settings of the environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from ppo_and_friends.settings.types import STRICT, Fraction, Positive


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AtariSettings:
    """The standard preprocessing of Atari games (Machado et al. 2018, arXiv:1709.06009)."""

    observation: Literal["pixels", "ram", "ram_bits"] = "pixels"
    """84 x 84 grey images, the 128 bytes of RAM, or its 1,024 bits (a feature set of arXiv:1207.4708), each
    byte's highest first. Games pack several numbers into a byte, such as a sprite's coarse and fine position,
    which a network tells apart in bits but hardly in bytes. The bytes need less memory and time."""

    frame_skip: Positive = 4
    """Emulator frames per action."""

    stack: Positive = 4
    """Frames stacked into one observation."""

    noop_max: Annotated[int, Field(ge=0)] = 30
    """Maximum number of no-op actions at the start of an episode."""

    repeat_action_probability: Fraction = 0.0
    """Chance that the emulator repeats the previous action (sticky actions)."""

    life_loss_ends_episode: bool = True
    """In training only: a lost life terminates the episode. Scores are always of whole games."""

    clip_rewards: bool = True
    """In training only: rewards become their sign. Scores are always unclipped."""

    fire_on_reset: bool = False
    """Press FIRE after a reset, for games that wait for it."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EnvironmentSettings:
    """The environment, the number of copies, and the engine that steps them."""

    id: str
    """Gymnasium id; ``module:Name-v0`` imports the module first. ``module:Class`` or ``module:function``
    is an unregistered subclass of gymnasium.Env, or a function that returns an environment. A file's path can
    take the module's place: ``path/to/file.py:Class``."""

    api: Literal["gymnasium", "petting_zoo"] = "gymnasium"
    """Whose rules it keeps: Gymnasium's, with one agent, or PettingZoo's, with several (see
    docs/several_agents.md). Without a launcher it is found out."""

    num_envs: Positive = 16
    """Environments over all ranks. With more ranks than that, each rank gets one."""

    backend: Literal["auto", "envpool", "gymnasium", "async", "ale"] = "auto"
    """What steps the environments; ``auto`` takes the fastest one known to agree with Gymnasium."""

    start_method: Literal["auto", "fork", "forkserver", "spawn"] = "auto"
    """How the backend ``async`` starts its processes, by `multiprocessing`'s names. ``auto`` never forks this
    process, because its threads would not survive the fork."""

    arguments: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments for ``gymnasium.make``, or for the class or function."""

    max_episode_steps: Positive | None = None
    """Time limit in agent steps (after frame skip and action repeat); None: the environment's own."""

    action_repeat: Positive = 1
    """Environment steps for which an action is repeated, their rewards added."""

    critic_observations: tuple[str, ...] = ()
    """Keys of a Dict observation that the critic alone sees (arXiv:1710.06542). The trained policy needs none
    of them."""

    action_masks: Literal["auto", "observation", "info", "method", "off"] = "auto"
    """Where the environment says which actions are legal: the key ``action_mask`` of a Dict observation or of
    ``info``, or a method ``action_masks()``. ``auto`` looks in all three. See docs/action_masks.md."""

    atari: AtariSettings | None = None
    """Preprocessing of an Atari game; None for everything else."""

    wrappers: tuple[str, ...] = ()
    """Gymnasium wrappers, innermost first, as ``module:callable`` or ``path/to/file.py:callable``, with
    arguments as ``module:callable(name=value)``. They require the backend ``gymnasium`` or ``async``."""

    factory: Annotated[Callable[..., Any] | None, Field(exclude=True)] = None
    """Makes the environment instead of ``gymnasium.make``. Such an experiment isn't plain data."""
