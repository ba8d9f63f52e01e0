"""Launchers for environments that say which actions are legal."""

from __future__ import annotations

from ppo_and_friends.settings.experiment import (
    EnvironmentSettings,
    Experiment,
    NetworkSettings,
    PPOSettings,
    friend,
    linear,
)
from ppo_and_friends.settings.registry import launcher

MASKED = "ppo_and_friends.environments.masked"


@launcher("Taxi", id="Taxi-v4", spaces="500 -> Discrete(6)")
def taxi() -> Experiment:
    """Fetch a passenger and take them where they want to go, by moves that lead somewhere."""
    return Experiment(
        name="Taxi",
        environment=EnvironmentSettings(id="Taxi-v4", num_envs=16),
        num_timesteps=200_000,
        reward_threshold=7.0,
        ppo=PPOSettings(
            rollout_timesteps=2048,
            minibatch_size=256,
            epochs=8,
            learning_rate=linear(1e-3),
            entropy_coefficient=linear(0.01),
        ),
        friends=(friend("RewardScale", factor=0.1), friend("AdvantageNormalizer")),
    )


@launcher("ManyActions", id=f"{MASKED}:ManyActions", spaces="1 -> Discrete(1000)")
def many_actions() -> Experiment:
    """Choose among 3 of 1,000 actions."""
    return Experiment(
        name="ManyActions",
        environment=EnvironmentSettings(id=f"{MASKED}:ManyActions", num_envs=16),
        num_timesteps=60_000,
        reward_threshold=18.0,
        ppo=PPOSettings(
            rollout_timesteps=2048,
            minibatch_size=512,
            epochs=8,
            learning_rate=linear(3e-3),
            gamma=0.0,  # what is played changes nothing about the next hand
        ),
        friends=(friend("AdvantageNormalizer"),),
    )


@launcher("CardMemory", id=f"{MASKED}:CardMemory", spaces="4 -> Discrete(52)")
def card_memory() -> Experiment:
    """Play a card of the suit that was shown three steps ago; only three of 52 are legal."""
    return Experiment(
        name="CardMemory",
        environment=EnvironmentSettings(id=f"{MASKED}:CardMemory", num_envs=32),
        num_timesteps=150_000,
        reward_threshold=0.95,
        ppo=PPOSettings(
            rollout_timesteps=4096,
            minibatch_size=512,
            epochs=8,
            sequence_length=16,
            learning_rate=linear(3e-3),
            gamma=0.5,
        ),
        network=NetworkSettings(memory="gru", memory_span=8),
        friends=(friend("AdvantageNormalizer"),),
    )
