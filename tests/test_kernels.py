"""The setting ``kernels``: "plain" runs nothing that is written out for speed, and learns the same."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ppo_and_friends.networks.kernels import fused_layers, fused_loss, inference
from ppo_and_friends.runs import build as building
from ppo_and_friends.runs.checkpoint_contents import settings_identity
from ppo_and_friends.settings.experiment import Experiment, NetworkSettings
from ppo_and_friends.settings.overrides import apply_settings
from ppo_and_friends.settings.registry import resolve
from tests.digests import EXPERIMENTS
from tests.engine import experiment
from tests.friends.runs import build, drift

COMPARED = (
    "CartPole",
    "HalfCheetah",
    "BipedalWalker",  # split observations, elu
    "normalised_cart_pole",
    "fading_pendulum",  # clipped values, relu
    "squashed_state_dependent",
    "curious_with_memory",  # a friend's own networks, leaky_relu, three choices
    "novelty_of_many_choices",  # choices of unlike width, silu
    "correlated_bits",  # yes-or-no choices
    "split_with_two_streams",
    "mirrored_cart_pole",
    "pictures",
)
"""Experiments of ``digests.py``, in double precision, with every distribution, activation and encoder."""


def learned(chosen: Experiment, iterations: int) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """All parameters and buffers after some iterations, and the metrics."""
    torch.set_num_threads(1)
    trainer = build(chosen)
    with closing(trainer.collector.envs):
        metrics = [trainer.train_iteration() for _ in range(iterations)]
        return {name: tensor.clone() for name, tensor in trainer.agent.tensors().items()}, metrics


def compare(chosen: Experiment, iterations: int, **tolerance: float) -> None:
    """Train with both kernels; parameters, buffers and metrics agree."""
    (fast, fast_metrics), (plain, plain_metrics) = (
        learned(replace(chosen, kernels=kernels), iterations) for kernels in ("fast", "plain")
    )
    assert list(fast) == list(plain)
    for name, tensor in plain.items():
        # Relative to the tensor's size: single numbers may be close to 0.
        scale = float(tensor.double().abs().max()) if tensor.numel() else 0.0
        torch.testing.assert_close(
            fast[name], tensor, rtol=tolerance["rtol"], atol=tolerance["rtol"] * scale, msg=name
        )
    for one, other in zip(fast_metrics, plain_metrics, strict=True):
        assert one == pytest.approx(other, rel=1e3 * tolerance["rtol"], abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("name", COMPARED)
def test_both_learn_the_same_in_double_precision(name: str) -> None:
    compare(EXPERIMENTS[name](), iterations=3, rtol=1e-9)


@pytest.mark.parametrize("activation", ["tanh", "elu"])
def test_both_learn_the_same_in_single_precision(activation: str) -> None:
    """Where oneDNN takes part: layers and minibatches that are large enough."""
    network = NetworkSettings(actor_hidden=(128, 64), critic_hidden=(128, 64), activation=activation)  # type: ignore[arg-type]
    chosen = experiment(drift(), network=network, rollout_timesteps=1024, minibatch_size=512, epochs=1)
    compare(chosen, iterations=1, rtol=1e-4)


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("a kernel was called")


def test_plain_is_modules_and_autograd_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (building, "fuse_layers"),
        (building, "act_function"),
        (building, "fused_ppo_loss"),
        (building, "direct_gradients"),
        (fused_layers, "fused_layers"),
        (fused_loss, "distribution_gradients"),
        (inference, "flattened"),
    ):
        monkeypatch.setattr(module, name, refuse)
    for name in ("squashed_state_dependent", "split_with_two_streams", "pictures"):
        chosen = replace(EXPERIMENTS[name](), kernels="plain")
        trainer = build(chosen)
        with closing(trainer.collector.envs):
            trainer.train_iteration()
            kernels = fused_layers.FusedMLP, fused_layers.FusedLinear
            parts: list[nn.Module] = [trainer.network, *(friend.state for friend in trainer.friends)]  # type: ignore[attr-defined]
            assert not any(isinstance(each, kernels) for part in parts for each in part.modules())
        with pytest.raises(AssertionError, match="a kernel was called"):
            build(EXPERIMENTS[name]())


def test_the_switch_is_a_setting_and_no_part_of_what_a_checkpoint_must_fit() -> None:
    fast = resolve("CartPole")
    plain = apply_settings(fast, ["kernels=plain"])
    assert (fast.kernels, plain.kernels) == ("fast", "plain")
    assert settings_identity(fast) == settings_identity(plain)


@pytest.mark.parametrize(
    ("name", "direct"),
    [
        ("CartPole", True),
        ("HalfCheetah", True),
        ("fading_pendulum", True),
        ("curious_with_memory", False),  # a friend's own loss
        ("squashed_state_dependent", False),
        ("split_with_two_streams", False),  # a friend's own encoder
        ("ManyActions", False),  # masks
        ("pictures", False),
    ],
)
def test_which_updates_do_without_autograd(name: str, direct: bool) -> None:
    trainer = build(EXPERIMENTS[name]())
    with closing(trainer.collector.envs):
        trainer.train_iteration()
        assert (trainer._gradients is not None) == direct
