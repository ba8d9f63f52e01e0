"""The settings of the actor and the critic."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from ppo_and_friends.settings.types import STRICT, NonNegative, Positive, Widths


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NetworkSettings:
    """Actor and critic."""

    model: str | None = None
    """Another model instead of the usual network: ``MultiAgentTransformer`` (see docs/several_agents.md), or
    your own, as ``module:Class`` or ``path/to/file.py:Class``. It receives the other settings and may ignore
    them. See docs/own_parts.md."""

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

    attention_width: Positive = 64
    """Width of the layers of a ``MultiAgentTransformer``. See docs/several_agents.md."""

    attention_heads: Positive = 1
    """Its attention heads; they divide the width."""

    attention_layers: Positive = 1
    """Number of its blocks, in the encoder and in the decoder."""

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
