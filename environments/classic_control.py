"""Classic control: small, quick, and enough to see whether the algorithm works."""

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


@launcher("CartPole", id="CartPole-v1", spaces="4 -> Discrete(2)")
def cart_pole() -> Experiment:
    """Balance a pole on a cart."""
    return Experiment(
        name="CartPole",
        environment=EnvironmentSettings(id="CartPole-v1", num_envs=32),
        num_timesteps=60_000,
        reward_threshold=500.0,
        ppo=PPOSettings(
            # Four times the environments and half the epochs of RL Zoo's settings, with a larger step:
            # as many timesteps to a perfect score, in a third of the time.
            rollout_timesteps=512,
            minibatch_size=256,
            epochs=8,
            learning_rate=linear(3e-3),
            clip_range=linear(0.2),
            gamma=0.98,
            gae_lambda=0.8,
        ),
        friends=(friend("AdvantageNormalizer"),),
    )


@launcher("Pendulum", id="Pendulum-v1", spaces="3 -> Box(1)")
def pendulum() -> Experiment:
    """Swing a pendulum up with a weak motor."""
    return Experiment(
        name="Pendulum",
        environment=EnvironmentSettings(id="Pendulum-v1", num_envs=4),
        num_timesteps=150_000,
        reward_threshold=-155.0,
        ppo=PPOSettings(
            rollout_timesteps=4096,
            minibatch_size=64,
            epochs=10,
            learning_rate=linear(1e-3),
            gamma=0.98,  # 0.9 is the usual one, and costs 19 points
            gae_lambda=0.95,
        ),
        friends=(
            # Swinging up takes pushes in one direction for a while (arXiv:2312.11091).
            friend("CorrelatedNoise", exponent=0.5),
            friend("RewardScale", factor=0.1),
            friend("AdvantageNormalizer"),
        ),
    )


@launcher("Acrobot", id="Acrobot-v1", spaces="6 -> Discrete(3)")
def acrobot() -> Experiment:
    """Swing a two-link pendulum above a line."""
    return Experiment(
        name="Acrobot",
        environment=EnvironmentSettings(id="Acrobot-v1", num_envs=16),
        num_timesteps=500_000,
        reward_threshold=-75.0,
        ppo=PPOSettings(
            rollout_timesteps=4096,
            minibatch_size=256,
            epochs=8,
            learning_rate=linear(1e-3),
            gae_lambda=0.94,
        ),
        friends=(
            friend("ObservationNormalizer"),
            friend("ObservationClip", limit=10.0),
            friend("RewardNormalizer"),
            friend("AdvantageNormalizer"),
        ),
    )


@launcher("MountainCar", id="MountainCar-v0", spaces="2 -> Discrete(3)")
def mountain_car() -> Experiment:
    """Rock a car out of a valley; the reward comes only at the top."""
    return Experiment(
        name="MountainCar",
        environment=EnvironmentSettings(id="MountainCar-v0", num_envs=16),
        num_timesteps=500_000,
        reward_threshold=-105.0,
        ppo=PPOSettings(
            rollout_timesteps=3200,  # every environment plays about one whole episode
            minibatch_size=320,
            epochs=8,
            learning_rate=linear(1e-3),
            gamma=0.999,
            gae_lambda=0.98,
            entropy_coefficient=linear(0.01),
        ),
        friends=(
            friend("ObservationNormalizer"),
            friend("ObservationClip", limit=10.0),
            friend("RewardNormalizer"),
            friend("AdvantageNormalizer"),
            # Curiosity is worth one to five points here (docs/friends.md).
            friend("ICM"),
        ),
    )


@launcher("MountainCarContinuous", id="MountainCarContinuous-v0", spaces="2 -> Box(1)")
def mountain_car_continuous() -> Experiment:
    """Rock a car out of a valley, paying for the fuel."""
    return Experiment(
        name="MountainCarContinuous",
        environment=EnvironmentSettings(id="MountainCarContinuous-v0", num_envs=4),
        num_timesteps=200_000,
        reward_threshold=93.0,
        ppo=PPOSettings(
            rollout_timesteps=4096,
            minibatch_size=256,
            epochs=10,
            learning_rate=linear(1e-3),
            gamma=0.9999,
            gae_lambda=0.9,
        ),
        network=NetworkSettings(log_std_init=0.5),
        friends=(
            friend("ObservationNormalizer"),
            friend("ObservationClip", limit=10.0),
            friend("RewardNormalizer"),
            friend("AdvantageNormalizer"),
        ),
    )
