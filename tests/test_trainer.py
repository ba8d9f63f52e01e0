"""A whole iteration against PPO written out in plain PyTorch, and what an update must guarantee."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ppo_and_friends.errors import PPOError
from ppo_and_friends.friends import Controls, Friend
from ppo_and_friends.networks.actor_critic import ActorCritic
from ppo_and_friends.ppo.minibatches import Minibatch
from ppo_and_friends.ppo.trainer import MAX_SKIPPED, Trainer
from ppo_and_friends.settings.experiment import Experiment, NetworkSettings, friend, linear
from tests.engine import Episodes, experiment, on_ranks, train
from tests.rollouts import arrays

SMALL = NetworkSettings(actor_hidden=(8,), critic_hidden=(8,), actor_output_gain=1.0)


def alone(settings: Experiment, work: Any) -> Any:
    return on_ranks(settings, 1, lambda trainer, _: work(trainer))[0]


def naive_advantages(rollout: Any, gamma: float, lam: float) -> np.ndarray[Any, Any]:
    rewards, values = rollout.rewards["extrinsic"], rollout.value_outputs["extrinsic"]
    advantages = np.zeros(rewards.shape)
    for b in range(rewards.shape[1]):
        for start in np.flatnonzero(rollout.active[:, b]):
            weight = 1.0
            for k in range(start, len(rewards)):
                future = 0.0 if rollout.terminated[k, b] else gamma * values[k + 1, b]
                advantages[start, b] += weight * (rewards[k, b] + future - values[k, b])
                weight *= gamma * lam
                if rollout.terminated[k, b] or rollout.truncated[k, b]:
                    break
    return advantages


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("value_clip_range", [None, 0.05])
@pytest.mark.parametrize("epochs", [1, 4])
def test_an_update_as_written_out(name: str, value_clip_range: float | None, epochs: int) -> None:
    """One minibatch an epoch; the later epochs' ratios are not 1. Three iterations, to 1e-6."""
    gamma, lam, clip, beta, c1, rate, limit = 0.9, 0.8, 0.05, 0.01, 0.5, 1e-2, 0.5
    settings = experiment(
        name,
        num_envs=8,
        network=SMALL,
        precision="float64",
        rollout_timesteps=400,
        minibatch_size=400,
        epochs=epochs,
        gamma=gamma,
        gae_lambda=lam,
        clip_range=clip,
        entropy_coefficient=beta,
        value_coefficient=c1,
        value_clip_range=value_clip_range,
        learning_rate=rate,
        max_grad_norm=limit,
    )

    def distribution(parameters: Tensor) -> Any:
        if name == "CartPole-v1":
            return torch.distributions.Categorical(logits=parameters)
        mean, log_std = parameters.chunk(2, dim=-1)
        return torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp()), 1)

    def work(trainer: Trainer) -> None:
        peer: Any = copy.deepcopy(trainer.network)
        # Copied parameters still point into the flat buffer's gradients.
        for parameter in peer.parameters():
            parameter.grad = None
        adam = torch.optim.Adam(peer.parameters(), lr=rate, eps=1e-5, fused=False, foreach=False)
        for _ in range(3):
            controls = trainer._scheduled_controls(trainer.progress, {})
            rollout = trainer.collect()
            trainer.estimate(rollout)
            after = rollout
            rollout = arrays(after)
            advantages = naive_advantages(rollout, gamma, lam)
            np.testing.assert_allclose(rollout.advantages, advantages, atol=1e-9)
            keep = torch.from_numpy(rollout.active)
            observations = torch.from_numpy(rollout.observations[:-1].copy())[keep]
            actions = torch.from_numpy(rollout.actions.copy())[keep]
            actions = actions[..., 0] if name == "CartPole-v1" else actions
            chosen = torch.from_numpy(advantages)[keep]
            old_values = torch.from_numpy(rollout.value_outputs["extrinsic"][:-1].copy())[keep]
            returns = chosen + old_values
            with torch.no_grad():
                old = distribution(peer(observations)[0])
                old_log_prob = old.log_prob(actions)
            for _ in range(epochs):
                parameters, values = peer(observations)
                new = distribution(parameters)
                ratio = torch.exp(new.log_prob(actions) - old_log_prob)
                surrogate = torch.min(ratio * chosen, torch.clamp(ratio, 1 - clip, 1 + clip) * chosen)
                error = (values[:, 0] - returns) ** 2
                if value_clip_range is not None:
                    held = old_values + torch.clamp(
                        values[:, 0] - old_values, -value_clip_range, value_clip_range
                    )
                    error = torch.max(error, (held - returns) ** 2)
                loss = -surrogate.mean() + c1 * error.mean() - beta * new.entropy().mean()
                adam.zero_grad()
                loss.backward()
                norm = torch.sqrt(sum(p.grad.square().sum() for p in peer.parameters()))  # type: ignore[arg-type]
                for parameter in peer.parameters():
                    parameter.grad *= min(1.0, limit / float(norm))
                adam.step()
            stats = trainer.improve(after, controls)
            if epochs == 1:
                assert stats["gradient_norm"] == pytest.approx(float(norm), rel=1e-6)
                assert stats["policy_loss"] == pytest.approx(-float(surrogate.detach().mean()), abs=1e-9)
                assert stats["value_loss"] == pytest.approx(float(error.detach().mean()), rel=1e-9)
                assert stats["entropy"] == pytest.approx(float(new.entropy().detach().mean()), rel=1e-9)
            else:
                assert stats["clip_fraction"] == pytest.approx(
                    float(((ratio - 1).abs() > clip).double().mean()), abs=1e-9
                )
                kl = torch.distributions.kl_divergence(old, new).mean()
                assert stats["kl"] == pytest.approx(float(kl.detach()), rel=1e-6)
            for ours, theirs in zip(trainer.network.parameters(), peer.parameters(), strict=True):
                torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
            # Not a test of doing nothing.
            assert float(norm) > 1e-3

    alone(settings, work)


class Witness(Friend):
    """Sees every minibatch."""

    def __init__(self) -> None:
        super().__init__()
        self.ratios: list[float] = []
        self.counts: list[float] = []
        self.sizes: list[int] = []

    def loss(self, minibatch: Minibatch) -> dict[str, Tensor]:
        distribution = self.context.distribution
        log_probs = distribution.log_prob(minibatch.policy_parameters, minibatch.actions)
        self.ratios.append(float((log_probs - minibatch.old_log_probs).detach().abs().max()))
        self.counts.append(minibatch.count)
        self.sizes.append(len(minibatch.samples))
        return {}


NORMALISED = (
    friend("ObservationNormalizer"),
    friend("ObservationClip", limit=5.0),
    friend("RewardNormalizer"),
    friend("AdvantageNormalizer"),
)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("size", [1, 3])
def test_the_first_ratio_is_one_and_counts_are_of_all_ranks(name: str, size: int) -> None:
    settings = experiment(name, (*NORMALISED, friend(Witness)), epochs=2, learning_rate=1e-2)
    ranks = train(settings, 3, size)
    witnesses = [next(each for each in trainer.friends if isinstance(each, Witness)) for trainer, _ in ranks]
    for witness in witnesses:
        assert len(witness.ratios) == 3 * 2 * 4  # iterations, epochs, minibatches
        assert max(witness.ratios[::8]) < 1e-5 and max(witness.ratios[1:8]) > 1e-3
        assert witness.counts == witnesses[0].counts
    # 512 rows an epoch over all ranks, of which each minibatch has 128, less its resets.
    assert np.sum([witness.sizes for witness in witnesses], axis=0).tolist() == [128] * 24
    per_epoch = np.array(witnesses[0].counts).reshape(3, 2, 4).sum(-1)
    assert (per_epoch[:, 0] == per_epoch[:, 1]).all()
    assert per_epoch[:, 0].sum() == ranks[0][0].timesteps


def test_schedules_follow_the_timesteps() -> None:
    settings = experiment(
        "Pendulum-v1",
        num_timesteps=2048,
        learning_rate=linear(1e-3),
        clip_range=linear(0.2, 0.1),
        entropy_coefficient=linear(0.04, 0.02),
        epochs=1,
    )
    (_, metrics), *_ = train(settings, 5)
    assert [each["learning_rate"] for each in metrics] == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4, 0.0])
    assert [each["clip_range"] for each in metrics] == pytest.approx([0.2, 0.175, 0.15, 0.125, 0.1])
    entropy = [each["entropy_coefficient"] for each in metrics]
    assert entropy == pytest.approx([0.04, 0.035, 0.03, 0.025, 0.02])


def test_equal_seeds_repeat_and_others_do_not() -> None:
    def result(seed: int) -> np.ndarray[Any, Any]:
        settings = experiment("CartPole-v1", NORMALISED)
        settings = Experiment(**{**vars(settings), "random_seed": seed})
        ((trainer, _),) = train(settings, 2)
        return trainer.optimizer.parameters.numpy().copy()

    first, again, other = (result(seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-2


class Poison(Friend):
    """Adds a term that is not finite, to the steps from ``start`` up to ``stop``."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop, self.step = start, stop, 0

    def loss(self, minibatch: Minibatch) -> dict[str, Tensor]:
        self.step += 1
        if self.start <= self.step < self.stop and self.context.communicator.rank == 0:
            return {"term": minibatch.mean(minibatch.value_outputs[:, 0] * float("nan"))}
        return {"term": minibatch.mean(minibatch.value_outputs[:, 0] * 0.0)}


@pytest.mark.parametrize("size", [1, 2])
def test_a_bad_gradient_is_skipped_by_all_ranks(size: int) -> None:
    ranks = train(experiment("CartPole-v1", (friend(Poison, start=3, stop=6),)), 3, size)
    first = ranks[0][0].optimizer.parameters
    assert first.isfinite().all()
    assert all(torch.equal(trainer.optimizer.parameters, first) for trainer, _ in ranks)
    assert ranks[0][1][-1]["policy_loss"] == ranks[0][1][-1]["policy_loss"]


@pytest.mark.parametrize("size", [1, 2])
def test_gradients_that_stay_bad_end_the_run(size: int) -> None:
    with pytest.raises(PPOError, match=f"not finite in {MAX_SKIPPED} steps in a row"):
        train(experiment("CartPole-v1", (friend(Poison, start=3, stop=10_000),)), 5, size)


class Second(Friend):
    """Learns a network of its own, with a step size of its own or PPO's."""

    def __init__(self, rate: float | None = None) -> None:
        super().__init__()
        self.learning_rate = rate
        self.layer = self.own("layer", nn.Linear(1, 1, bias=False))
        nn.init.ones_(self.layer.weight)

    def loss(self, minibatch: Minibatch) -> dict[str, Tensor]:
        return {"term": minibatch.mean(self.layer(minibatch.active[:, None])[:, 0])}


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("rate", [None, 0.01])
def test_a_friends_parameters_learn_along(size: int, rate: float | None) -> None:
    settings = experiment("CartPole-v1", (friend(Second, rate=rate),), learning_rate=1e-3)
    for trainer, metrics in train(settings, 2, size):
        (second,) = trainer.friends
        # The gradient is 1 at every one of the 16 steps, so that Adam moves by the rate each time.
        moved = float(1.0 - second.layer.weight)
        assert moved == pytest.approx(16 * (rate or 1e-3), rel=0.6 if rate is None else 1e-3)
        assert metrics[0]["Second/term"] < 1.0 and metrics[1]["Second/term"] < metrics[0]["Second/term"]


class Inspector(Friend):
    """Notes every step size that an update used."""

    def __init__(self, seen: list[Any]) -> None:
        super().__init__()
        self.seen = seen

    def after_minibatch(self, stats: dict[str, float], controls: Controls) -> None:
        self.seen.append((stats["kl"], controls.learning_rate))


def test_stops_and_rates_are_decided_alike_on_all_ranks() -> None:
    settings = experiment(
        "Pendulum-v1",
        (friend("KLEarlyStop", target=0.01), friend("AdaptiveLearningRate", target=0.002, decide="step")),
        epochs=10,
        learning_rate=3e-3,
    )
    ranks = train(settings, 4, 3)
    first = ranks[0][1]
    epochs = [each["epochs"] for each in first]
    assert min(epochs) < 10, "it never stopped early: this tests nothing"
    assert len({each["learning_rate"] for each in first}) > 1
    for _, metrics in ranks[1:]:
        assert [each["epochs"] for each in metrics] == epochs
        assert [each["learning_rate"] for each in metrics] == [each["learning_rate"] for each in first]


def test_explained_variance_and_timesteps() -> None:
    def work(trainer: Trainer) -> None:
        controls = trainer._scheduled_controls(trainer.progress, {})
        rollout = trainer.collect()
        trainer.estimate(rollout)
        stats = trainer._summary(rollout)
        rollout = arrays(rollout)
        returns, values = rollout.returns["extrinsic"], rollout.values["extrinsic"][:-1]
        valid = rollout.active
        expected = 1.0 - (returns - values)[valid].var() / returns[valid].var()
        assert stats["explained_variance"] == pytest.approx(float(expected), abs=1e-6)
        assert trainer.timesteps == valid.sum() < valid.size
        assert controls.learning_rate == trainer.settings.learning_rate.start

    alone(experiment(partial(Episodes, (3, 4)), num_envs=4, rollout_timesteps=64, minibatch_size=64), work)


@pytest.mark.parametrize("size", [1, 2])
def test_a_rollout_may_hold_nothing_but_resets(size: int) -> None:
    # Episodes of one step in rollouts of one step: every second rollout is resets alone.
    settings = experiment(
        partial(Episodes, lengths=(1,)), num_envs=2, rollout_timesteps=2, minibatch_size=2, epochs=1
    )
    for trainer, stats in train(settings, 4, size):
        assert trainer.timesteps == 2 + 0 + 2 + 0
        assert [each["episodes"] for each in stats] == [2, 0, 2, 0]
        assert trainer.optimizer.parameters.isfinite().all()


class FrozenActor(Friend):
    """Trains the critic alone."""

    def adapt(self, network: ActorCritic) -> ActorCritic:
        for parameter in (*network.actor.parameters(), *network.policy_head.parameters()):
            parameter.requires_grad_(False)
        return network


def test_a_part_that_is_frozen_stays_so() -> None:
    def work(trainer: Trainer) -> None:
        actor = [parameter.detach().clone() for parameter in trainer.network.actor.parameters()]
        critic = [parameter.detach().clone() for parameter in trainer.network.critic.parameters()]
        trainer.train_iteration()
        for before, after in zip(actor, trainer.network.actor.parameters(), strict=True):
            torch.testing.assert_close(after, before, rtol=0, atol=0)
        for before, after in zip(critic[::2], list(trainer.network.critic.parameters())[::2], strict=True):
            assert not torch.equal(after, before)

    alone(experiment("CartPole-v1", (friend(FrozenActor),)), work)
