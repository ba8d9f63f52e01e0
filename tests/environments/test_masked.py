"""The environments that say which actions are legal, and what it takes to master them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment, NetworkSettings
from ppo_and_friends.settings.registry import all_launchers
from tests.engine import experiment, on_ranks

all_launchers()  # so that the package is found
from ppo_and_friends.environments.masked import CardMemory, ManyActions  # noqa: E402


def test_the_best_card_of_a_hand_is_worth_one() -> None:
    env = ManyActions(actions=50, legal=3, hands=4)
    _, info = env.reset(seed=1)
    for t in range(4):
        hand = np.flatnonzero(info["action_mask"])
        assert len(hand) == 3
        worths = env._worth[hand]
        play = int(hand[worths.argmax() if t % 2 else worths.argmin()])
        _, reward, over, _, info = env.step(play)
        assert reward == t % 2 and over == (t == 3)


@pytest.mark.parametrize("delay", [1, 3])
def test_a_card_of_the_suit_shown_before_is_right(delay: int) -> None:
    env = CardMemory(delay=delay, steps=8, ranks=5)
    observation, info = env.reset(seed=1)
    shown, score, over = [int(observation.argmax())], 0.0, False
    while not over:
        hand = np.flatnonzero(info["action_mask"])
        assert len(hand) == 3 and len(set(hand // 5)) == 3
        asked = shown[max(0, len(shown) - 1 - delay)]
        (right,) = [card for card in hand if card // 5 == asked]
        observation, reward, over, _, info = env.step(right)
        assert reward == (1 / 8 if len(shown) > delay else 0.0)
        score += reward
        shown.append(int(observation.argmax()))
    assert score == 1.0 and len(shown) == 8 + delay + 1


def small(**changes: Any) -> Experiment:
    """One step back, 3 cards a suit: as little as needs both."""
    environment = EnvironmentSettings(
        id="Toy-v0",
        factory=lambda: CardMemory(delay=1, steps=16, ranks=3),
        num_envs=16,
        backend="gymnasium",
        action_masks=changes.pop("action_masks", "auto"),
    )
    network = NetworkSettings(actor_hidden=(), critic_hidden=(), memory_width=32, **changes)
    sizes: dict[str, Any] = {"rollout_timesteps": 1024, "minibatch_size": 256, "epochs": 8, "gamma": 0.0}
    return experiment(environment, network=network, learning_rate=1e-2, sequence_length=8, **sizes)


@pytest.mark.slow
def test_cards_are_remembered_with_memory_and_masks_alone() -> None:
    """One of three legal cards is right; without masks, one of the right suit's three cards is legal."""

    def learned(chosen: Experiment) -> float:
        def work(trainer: Any, _: Any) -> float:
            found = [trainer.train_iteration()["episode_return_mean"] for _ in range(10)]
            return float(np.mean(found[-2:]))

        (score,) = on_ranks(chosen, 1, work)
        return score

    assert learned(small(memory="gru")) > 0.9  # 0.99
    assert learned(small()) < 0.45  # 0.33
    assert learned(small(memory="gru", action_masks="off")) < 0.45  # 0.2
