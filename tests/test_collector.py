"""What is collected, and the advantages that follow from it, in an environment whose numbers are known."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from ppo_and_friends.friends import EpisodeHistory, Friend
from ppo_and_friends.ppo.rollout import Rollout
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import (
    AtariSettings,
    EnvironmentSettings,
    Experiment,
    NetworkSettings,
    friend,
)
from tests.engine import Episodes, Identity, experiment, on_ranks
from tests.rollouts import arrays


def settings(ending: str, lengths: tuple[int, ...] = (3,), **ppo: Any) -> Experiment:
    return experiment(
        partial(Episodes, lengths, ending),
        num_envs=1,
        network=NetworkSettings(actor_hidden=(), critic_hidden=()),
        **({"rollout_timesteps": 5, "minibatch_size": 5, "gamma": 0.5, "gae_lambda": 0.5} | ppo),
    )


def know_the_value(trainer: Trainer) -> None:
    """V = 100 episode + 10 t, of observations [episode, t]."""
    head = trainer.network.value_head
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[100.0, 10.0]]))
        head.bias.zero_()


def two_rollouts(trainer: Trainer, _: Any) -> list[dict[str, Any]]:
    know_the_value(trainer)
    found = []
    for _ in range(2):
        rollout = trainer.collect()
        trainer.estimate(rollout)
        found.append(
            {
                "observations": rollout.observations["policy"][:, 0].tolist(),
                "rewards": rollout.rewards["extrinsic"][:, 0].tolist(),
                "valid": rollout.active[:, 0].tolist(),
                "advantages": rollout.advantages[:, 0].tolist(),
                "returns": rollout.returns["extrinsic"][:, 0].tolist(),
            }
        )
    return found


@pytest.mark.parametrize(
    ("ending", "advantages"),
    [
        # A trace loses 1/4 a step. V of the rows: 0, 10, 20, [30], 100, 110.
        # Row 2 is cut off and bootstraps from its true final observation, V = 30:
        # d2 = 3 + 15 - 20 = -2;  d1 = 2 + 10 - 10 = 2, A1 = 2 - 2/4 = 1.5;  d0 = 1 + 5 - 0 = 6, A0 = 6.375
        # Row 3 is the reset. Row 4 ends the rollout: d4 = 1 + 55 - 100 = -44.
        # The second rollout goes on with V = 110, 120, [130], 200, 210, 220:
        # d1 = 3 + 65 - 120 = -52;  d0 = 2 + 60 - 110 = -48, A0 = -48 - 52/4 = -61
        # d4 = 2 + 110 - 210 = -98;  d3 = 1 + 105 - 200 = -94, A3 = -94 - 98/4 = -118.5
        ("truncated", [[6.375, 1.5, -2, 0, -44], [-61, -52, 0, -118.5, -98]]),
        # d2 = 3 - 20 = -17;  A1 = 2 - 17/4 = -2.25;  A0 = 6 - 2.25/4 = 5.4375
        # d1 = 3 - 120 = -117;  A0 = -48 - 117/4 = -77.25
        ("terminated", [[5.4375, -2.25, -17, 0, -44], [-77.25, -117, 0, -118.5, -98]]),
    ],
)
def test_across_an_automatic_reset_and_the_border_of_a_rollout(
    ending: str, advantages: list[list[float]]
) -> None:
    ((first, second),) = on_ranks(settings(ending), 1, two_rollouts)
    assert first["observations"] == [[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [1, 1]]
    assert second["observations"] == [[1, 1], [1, 2], [1, 3], [2, 0], [2, 1], [2, 2]]
    assert first["valid"] == [True, True, True, False, True]
    assert second["valid"] == [True, True, False, True, True]
    assert first["rewards"] == [1, 2, 3, 0, 1] and second["rewards"] == [2, 3, 0, 1, 2]
    assert [first["advantages"], second["advantages"]] == advantages
    values = [0.0, 10.0, 20.0, 30.0, 100.0]
    assert first["returns"] == [a + v for a, v in zip(advantages[0], values, strict=True)]


def test_an_episode_that_ends_with_the_rollout() -> None:
    """Its final observation is the rollout's last one; the reset is the next rollout's first row."""
    ((first, second),) = on_ranks(settings("truncated", rollout_timesteps=3), 1, two_rollouts)
    # d2 = 3 + 15 - 20 = -2, as above.
    assert first["advantages"] == [6.375, 1.5, -2] and first["observations"][-1] == [0, 3]
    assert second["valid"] == [False, True, True] and second["observations"][0] == [0, 3]
    # d2 = 2 + 60 - 110 = -48;  d1 = 1 + 55 - 100 = -44, A1 = -44 - 48/4 = -56
    assert second["advantages"] == [0, -56, -48]


def test_a_lost_life_ends_the_return_but_not_the_episode() -> None:
    game = EnvironmentSettings(
        id="Toy-v0", num_envs=1, backend="gymnasium", atari=AtariSettings(clip_rewards=False)
    )
    plain = settings("life")
    with pytest.MonkeyPatch.context() as patch:
        # The toy stands for a game: what preprocessing would add is in it already.
        patch.setattr("ppo_and_friends.vector.canonical._make_bare", lambda *_: Episodes((3,), "life"))
        patch.setattr("ppo_and_friends.vector.wrappers.atari.preprocess", lambda env, _: env)
        patch.setattr("ppo_and_friends.vector.wrappers.atari.LifeLossInfo", lambda env: env)
        changed = dataclasses.replace(plain, environment=game)
        ((first, _),) = on_ranks(changed, 1, two_rollouts)
    # The second step loses a life: d1 = 2 - 10 = -8 without a future, and no reset follows it.
    # d2 = 3 + 15 - 20 = -2;  d0 = 1 + 5 - 0 = 6, A0 = 6 - 8/4 = 4
    assert first["valid"] == [True, True, True, False, True]
    assert first["advantages"] == [4, -8, -2, 0, -44]


def test_what_is_stored_is_what_the_network_says_and_the_noise_draws() -> None:
    def work(trainer: Trainer, _: Any) -> None:
        for _ in range(2):
            rollout = trainer.collect()
            inputs = rollout.observations["policy"]
            parameters, values = trainer.network(inputs.flatten(0, 1))
            parameters = parameters.detach().unflatten(0, inputs.shape[:2])[:-1]
            peer = torch.distributions.Categorical(logits=parameters)
            log_probs = peer.log_prob(rollout.actions[..., 0])
            np.testing.assert_allclose(rollout.policy_parameters, parameters, atol=1e-6)
            np.testing.assert_allclose(rollout.log_probs, log_probs, atol=1e-6)
            np.testing.assert_allclose(
                rollout.value_outputs["extrinsic"].flatten(), values.detach().numpy().ravel(), atol=1e-6
            )
            noise = trainer.randomness.noise("uniform", trainer.iteration, trainer.layout, rollout.steps, 1)
            # Of two actions, the second is taken where the noise is above the first one's probability.
            np.testing.assert_array_equal(rollout.actions, noise >= peer.probs.numpy()[..., :1])

    on_ranks(experiment("CartPole-v1", (friend("ObservationNormalizer"),)), 1, work)


def test_observations_are_the_environments_own() -> None:
    """The vector environment may write the next observation into the same memory."""

    def work(trainer: Trainer, _: Any) -> None:
        rollout = arrays(trainer.collect())
        # Identity's rewards are right where the action is the observation's.
        wanted = rollout.observations[:-1].argmax(-1)
        right = (rollout.actions[..., 0] == wanted) & rollout.active
        np.testing.assert_array_equal(rollout.rewards["extrinsic"], right.astype(np.float32))
        last = rollout.observations[-1].copy()
        np.testing.assert_array_equal(trainer.collect().observations["policy"][0], last)

    on_ranks(experiment(partial(Identity, spaces.Discrete(3))), 1, work)


def test_friends_know_which_observations_are_first_ones() -> None:
    class Watcher(Friend):
        def transform(self, observations: Any, history: EpisodeHistory) -> Any:
            seen.append((observations[0].tolist(), bool(history.episode_starts[0])))
            history.memory["calls"] = history.memory.get("calls", 0) + 1
            calls.append(history.memory["calls"])
            return observations

    seen: list[Any] = []
    calls: list[int] = []
    changed = settings("truncated")
    changed = experiment(
        changed.environment, (friend(Watcher),), network=changed.network, rollout_timesteps=5
    )
    on_ranks(changed, 1, two_rollouts)
    assert len(seen) == 12
    assert all(fresh == (observation[1] == 0) for observation, fresh in seen), seen
    # The look at the rollout's last observation leaves no trace in the memory: it is shown again.
    assert calls == [1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 11]


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_precision(precision: str) -> None:
    def work(trainer: Trainer, _: Any) -> None:
        rollout: Rollout = trainer.collect()
        trainer.estimate(rollout)
        tensors = {
            "observations": rollout.observations["policy"],
            "log_probs": rollout.log_probs,
            "parameters": rollout.policy_parameters,
            "advantages": rollout.advantages,
            "rewards": rollout.rewards["extrinsic"],
            "values": rollout.values["extrinsic"],
            "targets": rollout.value_targets["extrinsic"],
        }
        assert {name: tensor.dtype for name, tensor in tensors.items()} == dict.fromkeys(
            tensors, getattr(torch, precision)
        )
        assert rollout.true_rewards.dtype == torch.float64

    normalised = (friend("ObservationNormalizer"), friend("RewardNormalizer"), friend("AdvantageNormalizer"))
    on_ranks(experiment("Pendulum-v1", normalised, precision=precision), 1, work)
