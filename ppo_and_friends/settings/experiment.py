"""What an experiment is: every setting of a run, in frozen and validated dataclasses.

Nothing heavy is imported here (no torch, no simulator), so that ``--help`` and ``--list`` are quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.dotted_names import changed
from ppo_and_friends.settings.environment import AtariSettings, EnvironmentSettings
from ppo_and_friends.settings.network import NetworkSettings
from ppo_and_friends.settings.schedules import Schedule, ScheduleLike, cosine, linear, logarithmic, steps
from ppo_and_friends.settings.several_agents import AgentSettings
from ppo_and_friends.settings.types import STRICT, Fraction, NonNegative, Positive

__all__ = [
    "AgentSettings",
    "AtariSettings",
    "EnvironmentSettings",
    "Experiment",
    "FriendSpec",
    "NetworkSettings",
    "PPOSettings",
    "Schedule",
    "cosine",
    "friend",
    "linear",
    "logarithmic",
    "steps",
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PPOSettings:
    """Proximal policy optimisation, Algorithm 1 of arXiv:1707.06347."""

    rollout_timesteps: Positive = 4096
    """Timesteps collected between updates, over all environments of all ranks."""

    minibatch_size: Positive = 1024
    """Timesteps in a gradient step, over all ranks; ``sequence_length`` of each environment at least."""

    sequence_length: Positive | None = None
    """Length of the chunks of consecutive steps that minibatches consist of; with memory, gradients flow back
    over one chunk. Must divide an environment's steps in a rollout. None: 1 without memory, else the largest
    such divisor up to 16, which must be at least 4."""

    epochs: Positive = 5
    """Passes over the rollout in an update."""

    learning_rate: ScheduleLike = field(default_factory=lambda: Schedule(3e-4))
    """Adam's step size."""

    clip_range: ScheduleLike = field(default_factory=lambda: Schedule(0.2))
    """Clip range epsilon of the probability ratio (eq. 7)."""

    gamma: Fraction = 0.99
    """Discount factor, per step."""

    gae_lambda: Fraction = 0.95
    """Lambda of generalised advantage estimation (arXiv:1506.02438)."""

    entropy_coefficient: ScheduleLike = field(default_factory=lambda: Schedule(0.0))
    """Weight of the entropy bonus (c2 of eq. 9)."""

    value_coefficient: NonNegative = 0.5
    """Weight of the value loss (c1 of eq. 9)."""

    value_clip_range: Annotated[float, Field(gt=0.0)] | None = None
    """Largest change of a value prediction in an update, in the critic's units; None: unlimited."""

    max_grad_norm: Annotated[float, Field(gt=0.0)] | None = 0.5
    """Global gradient norm above which the gradient is scaled down; None: never."""

    adam_epsilon: Annotated[float, Field(gt=0.0)] = 1e-5
    """Adam's epsilon (arXiv:2006.05990 uses the same)."""


@dataclass(frozen=True, config=STRICT)
class FriendSpec:
    """A friend and its arguments; the class is looked up when the experiment starts."""

    name: str
    """A registered name (``KLEarlyStop``) or ``module:Class``."""

    arguments: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the class."""

    kind: Annotated[type | None, Field(exclude=True)] = None
    """The class itself, for one that can't be imported by name. Such an experiment isn't plain data."""


def friend(kind: str | type, **arguments: Any) -> FriendSpec:
    """Add a friend to an experiment, by registered name, ``module:Class`` or class."""
    if isinstance(kind, str):
        return FriendSpec(kind, arguments)
    return FriendSpec(kind.__name__, arguments, kind)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Experiment:
    """All that defines a run. Two runs of equal experiments on any number of ranks agree."""

    name: str
    """The launcher's name, and the name of the run's folder."""

    environment: EnvironmentSettings
    """What is learned."""

    num_timesteps: Positive = 1_000_000
    """Agent steps of the whole run, over all ranks."""

    ppo: PPOSettings = field(default_factory=PPOSettings)
    """The algorithm's settings."""

    network: NetworkSettings = field(default_factory=NetworkSettings)
    """Actor and critic."""

    agents: AgentSettings = field(default_factory=AgentSettings)
    """Several agents in an environment."""

    friends: tuple[FriendSpec, ...] = ()
    """Friends in the order in which they are called."""

    random_seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """Everything random in the run follows from it."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the networks; ``auto`` takes CUDA if there is one and the network, or a friend, has
    convolutions."""

    precision: Literal["float32", "float64"] = "float32"
    """Of parameters, observations and losses."""

    kernels: Literal["fast", "plain"] = "fast"
    """``fast``: gradients, layers and acting written out for speed (``networks/kernels/``); ``plain``:
    PyTorch's modules and autograd throughout. Results differ by rounding alone."""

    deterministic_shards: Annotated[int, Field(ge=0)] = 0
    """V: the run is computed in V shards, hosted by 1 to V ranks, with the same results bit for bit on any
    number of them; 0: the number of ranks changes results by rounding."""

    reward_threshold: float | None = None
    """The mean evaluation score at which the environment counts as solved; for information."""

    checkpoint_seconds: Annotated[float, Field(ge=0.0)] = 60.0
    """Minimum seconds between checkpoints; 0 saves every iteration. One is always written at the end."""

    keep_checkpoints: Positive = 2
    """Checkpoints kept, the newest ones."""

    exact_resume: bool = False
    """Save the states of the environments with each checkpoint, and go on from them: a resumed run then
    equals the uninterrupted one bit for bit. Not every environment can: see docs/distribution.md."""

    def with_changes(
        self,
        settings: Mapping[str, Any] | None = None,
        *,
        num_timesteps: int | None = None,
        num_envs: int | None = None,
        random_seed: int | None = None,
        device: str | None = None,
    ) -> Experiment:
        """A copy with some settings changed, typed and checked as for ``--set``.

        Args:
            settings: Dotted names and values, such as ``{"ppo.gamma": 0.995}``; a friend's argument is
                ``friends.KLEarlyStop.target``, an environment's argument ``environment.arguments.size``.
            num_timesteps: Agent steps of the whole run; None here and below: unchanged.
            num_envs: Environments over all ranks, short for ``environment.num_envs``.
            random_seed: Seed of all randomness in the run.
            device: Where to place the networks.

        Raises:
            UsageError: An unknown name (the nearest are listed) or a value that doesn't fit.
        """
        short = {
            "num_timesteps": num_timesteps,
            "environment.num_envs": num_envs,
            "random_seed": random_seed,
            "device": device,
        }
        given = {name: value for name, value in short.items() if value is not None}
        return changed(self, [*given.items(), *(settings or {}).items()])

    def with_friends(self, *added: FriendSpec) -> Experiment:
        """A copy with these friends as well, each in place of one of its name or after all others."""
        by_name = {one.name: one for one in (*self.friends, *added)}
        return replace(self, friends=tuple(by_name.values()))

    def without_friends(self, *names: str) -> Experiment:
        """A copy without these friends.

        Raises:
            UsageError: One of them isn't there.
        """
        there = {one.name for one in self.friends}
        for name in names:
            if name not in there:
                raise UsageError(f"There is no friend {name!r}, but {', '.join(sorted(there)) or 'none'}.")
        return replace(self, friends=tuple(one for one in self.friends if one.name not in names))
