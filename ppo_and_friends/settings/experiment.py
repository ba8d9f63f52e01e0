"""What an experiment is: every setting of a run, in frozen and validated dataclasses.

Nothing heavy is imported here (no torch, no simulator), so that ``--help`` and ``--list`` are quick.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.dotted_names import changed
from ppo_and_friends.settings.schedules import Schedule, ScheduleLike, cosine, linear, logarithmic, steps
from ppo_and_friends.settings.several_agents import AgentSettings

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

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Widths = tuple[Positive, ...]

STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AtariSettings:
    """The standard preprocessing of Atari games (Machado et al. 2018, arXiv:1709.06009)."""

    observation: Literal["pixels", "ram"] = "pixels"
    """84 x 84 grey images, or the 128 bytes of RAM."""

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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PPOSettings:
    """Proximal policy optimisation, Algorithm 1 of arXiv:1707.06347."""

    rollout_timesteps: Positive = 4096
    """Timesteps collected between updates, over all environments of all ranks."""

    minibatch_size: Positive = 1024
    """Timesteps in a gradient step, over all ranks."""

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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NetworkSettings:
    """Actor and critic."""

    model: str | None = None
    """Your own model instead of the built-in network, as ``module:Class`` or ``path/to/file.py:Class``. It
    receives the other settings and may ignore them. See docs/own_parts.md."""

    actor_hidden: Widths = (64, 64)
    """Widths of the actor's hidden layers; ignored with the Nature CNN, whose 512 features feed the head."""

    critic_hidden: Widths = (64, 64)
    """Widths of the critic's hidden layers; see ``actor_hidden``."""

    activation: Literal["tanh", "relu", "elu", "leaky_relu", "silu"] = "tanh"
    """Nonlinearity of the hidden layers."""

    encoder: Literal["auto", "mlp", "nature_cnn"] = "auto"
    """``auto``: the Nature CNN (Mnih et al. 2015) for images, nothing before the layers otherwise."""

    half_precision: bool = False
    """Compute convolutions in bfloat16 (parameters stay as they are): faster where processors have it."""

    shared: bool | None = None
    """Actor and critic share the encoder; None: for images only."""

    memory: Literal["lstm", "gru"] | None = None
    """Type of the recurrent layers that give the policy a memory; None: no memory. See
    docs/memory.md."""

    memory_width: Positive = 64
    """Width of each recurrent layer."""

    memory_layers: Positive = 1
    """Number of stacked recurrent layers."""

    memory_span: Positive = 32
    """Longest time scale of the memory's units at initialisation, in steps; the units are spread from 1 to
    this (arXiv:1804.11188). Raise it for longer dependencies."""

    memory_place: Literal["before", "after"] = "before"
    """Whether the memory stands before or after the hidden layers."""

    memory_shared: bool = False
    """Actor and critic share one memory. With ``memory_place`` "after", the critic has no hidden layers."""

    log_std_init: float = 0.0
    """Log of the Gaussian policy's first standard deviation, in units of half the action range."""

    squash: bool = False
    """Squash Gaussian actions with tanh into the bounds, instead of clipping at them."""

    actor_output_gain: NonNegative = 0.01
    """Orthogonal gain of the policy's last layer (arXiv:2006.05990 finds small ones best)."""


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

    reward_threshold: float | None = None
    """The mean evaluation score at which the environment counts as solved; for information."""

    checkpoint_seconds: Annotated[float, Field(ge=0.0)] = 60.0
    """Minimum seconds between checkpoints; 0 saves every iteration. One is always written at the end."""

    keep_checkpoints: Positive = 2
    """Checkpoints kept, the newest ones."""

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
