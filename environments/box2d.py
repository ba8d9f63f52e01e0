"""Launchers for Box2D: landing and walking."""

from __future__ import annotations

from ppo_and_friends.settings.experiment import (
    EnvironmentSettings,
    Experiment,
    FriendSpec,
    NetworkSettings,
    PPOSettings,
    Schedule,
    friend,
    linear,
)
from ppo_and_friends.settings.registry import launcher

FRIENDS: tuple[FriendSpec, ...] = (
    friend("ObservationNormalizer"),
    friend("ObservationClip", limit=10.0),
    friend("RewardNormalizer"),
    friend("AdvantageNormalizer"),
)


@launcher("LunarLander", id="LunarLander-v3", spaces="8 -> Discrete(4)")
def lunar_lander() -> Experiment:
    """Land between two flags, switching the engines on and off."""
    return Experiment(
        name="LunarLander",
        environment=EnvironmentSettings(id="LunarLander-v3", num_envs=16),
        num_timesteps=1_500_000,
        reward_threshold=265.0,
        ppo=PPOSettings(
            rollout_timesteps=16_384,
            minibatch_size=1024,
            epochs=5,
            learning_rate=linear(1e-3),
            gamma=0.999,
            gae_lambda=0.98,
            entropy_coefficient=Schedule(0.01),
        ),
        friends=FRIENDS,
    )


@launcher("LunarLanderContinuous", id="LunarLanderContinuous-v3", spaces="8 -> Box(2)")
def lunar_lander_continuous() -> Experiment:
    """Land between two flags, throttling the engines."""
    return Experiment(
        name="LunarLanderContinuous",
        environment=EnvironmentSettings(id="LunarLanderContinuous-v3", num_envs=16),
        num_timesteps=1_500_000,
        reward_threshold=280.0,
        ppo=PPOSettings(
            rollout_timesteps=8192,
            minibatch_size=1024,
            epochs=8,
            learning_rate=linear(1e-3),
            gamma=0.999,
            gae_lambda=0.98,
        ),
        # Exploration noise costs fuel: with the default standard deviation and an entropy bonus, the final
        # training score is 100 points lower.
        network=NetworkSettings(
            actor_hidden=(128, 64), critic_hidden=(128, 64), activation="elu", log_std_init=-0.5
        ),
        friends=(*FRIENDS, friend("AdvantageRecompute")),
    )


@launcher("BipedalWalker", id="BipedalWalker-v3", spaces="24 -> Box(4)")
def bipedal_walker() -> Experiment:
    """Walk on slightly uneven ground."""
    return Experiment(
        name="BipedalWalker",
        environment=EnvironmentSettings(id="BipedalWalker-v3", num_envs=64),
        num_timesteps=4_000_000,
        reward_threshold=320.0,
        ppo=PPOSettings(
            rollout_timesteps=16_384,
            minibatch_size=2048,
            epochs=5,
            learning_rate=linear(1e-3),
            gamma=0.99,  # with 0.995 it learns to walk later, and walks more slowly
        ),
        # With less initial noise it learns to walk in half as many timesteps.
        network=NetworkSettings(log_std_init=-0.5),
        friends=(
            friend("ObservationNormalizer"),
            friend("ObservationClip", limit=10.0),
            friend("AdvantageNormalizer"),
            # With separate encoders for lidar and body it walks after 0.8M timesteps instead of 1M or more.
            friend("SplitObservations", exteroceptive="14-23"),
            # The penalty for a fall rises from 1 to the true 100; with the full penalty from the start, it
            # learns to stand still.
            friend("RewardClip", low=linear(-1.0, -100.0), high=10.0),
            friend("StdClip", limit=linear(1.0, 0.15)),
        ),
    )


@launcher("BipedalWalkerHardcore", id="BipedalWalkerHardcore-v3", spaces="24 -> Box(4)")
def bipedal_walker_hardcore() -> Experiment:
    """Walk over stumps, stairs and pitfalls."""
    return Experiment(
        name="BipedalWalkerHardcore",
        environment=EnvironmentSettings(id="BipedalWalkerHardcore-v3", num_envs=64),
        num_timesteps=25_000_000,
        reward_threshold=300.0,
        ppo=PPOSettings(
            # Many small updates, whose size the KL divergence decides: with a quarter as many, and rewards as
            # they are, a score of 50 took four times as many timesteps.
            rollout_timesteps=4096,
            minibatch_size=1024,
            epochs=5,
            value_coefficient=1.0,
            max_grad_norm=1.0,
        ),
        network=NetworkSettings(
            actor_hidden=(256, 128, 64), critic_hidden=(256, 128, 64), activation="elu", log_std_init=-0.5
        ),
        friends=(
            friend("ObservationNormalizer"),
            friend("ObservationClip", limit=10.0),
            # A fall costs 1 until it walks, then 10; with more from the start, it learns to stand still.
            # Once it seldom falls, a fall costs the true 100: the rewards that it loses by a fall count with
            # a discount, so that with less it hurries and falls.
            friend(
                "RewardClip",
                low=(-1.0, "-10@episode_return_mean_100>=100", "-100@episode_return_mean_100>=250"),
                high=10.0,
            ),
            friend("RewardScale", factor=0.1),
            friend("ValueNormalizer"),
            friend("AdvantageNormalizer"),
            friend("SplitObservations", exteroceptive="14-23"),
            # The target falls, so that the policy settles at the end.
            friend("AdaptiveLearningRate", target=linear(0.01, 0.003), decide="step"),
            friend("StdClip", limit=linear(1.0, 0.15)),
        ),
    )
