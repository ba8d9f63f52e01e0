"""Launchers for classic control: small environments that train fast enough to check the algorithm."""

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
            # Compared with RL Zoo: four times the environments, a larger learning rate, half the epochs. The
            # clip range is constant and the learning rate keeps a tenth, so that a late fall can still be
            # corrected. Minibatches of 256 learned more slowly with some seeds: one ended at 488.
            rollout_timesteps=1024,
            minibatch_size=128,
            epochs=10,
            learning_rate=linear(2e-3, 2e-4),
            gamma=0.99,
            gae_lambda=0.95,
        ),
        friends=(
            # Values of 2, not 100, which the critic reaches within the run and whose errors don't use up
            # the gradient's norm: without it 8 of 20 seeds fell again once they had learned to balance.
            friend("RewardScale", factor=0.02),
            friend("AdvantageNormalizer"),
        ),
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
            gamma=0.98,  # the usual value of 0.9 lowers the score by 19
            gae_lambda=0.95,
        ),
        friends=(
            # Swinging up takes several pushes in the same direction in a row (arXiv:2312.11091).
            friend("CorrelatedNoise", exponent=0.5),
            friend("RewardScale", factor=0.1),
            friend("AdvantageNormalizer"),
        ),
    )


@launcher("Acrobot", id="Acrobot-v1", spaces="6 -> Discrete(3)")
def acrobot() -> Experiment:
    """Swing the tip of a two-link pendulum above a line."""
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
    """Drive a weak car out of a valley by rocking; each step costs 1 until it reaches the top."""
    return Experiment(
        name="MountainCar",
        environment=EnvironmentSettings(id="MountainCar-v0", num_envs=16),
        num_timesteps=500_000,
        reward_threshold=-105.0,
        ppo=PPOSettings(
            rollout_timesteps=3200,  # 200 steps per environment, about one whole episode
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
            # Curiosity raises the score by 1 to 5 (docs/friends.md).
            friend("ICM"),
        ),
    )


@launcher("MountainCarContinuous", id="MountainCarContinuous-v0", spaces="2 -> Box(1)")
def mountain_car_continuous() -> Experiment:
    """Drive a weak car out of a valley by rocking; the force applied costs reward."""
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
