"""MuJoCo: balancing, hopping, running, standing up."""

from __future__ import annotations

from ppo_and_friends.settings.experiment import (
    EnvironmentSettings,
    Experiment,
    FriendSpec,
    NetworkSettings,
    PPOSettings,
    friend,
    linear,
)
from ppo_and_friends.settings.registry import launcher

NORMALIZERS: tuple[FriendSpec, ...] = (
    friend("ObservationNormalizer"),
    friend("ObservationClip", limit=10.0),
    friend("RewardNormalizer"),
    friend("RewardClip", low=-10.0, high=10.0),
    friend("AdvantageNormalizer"),
)
"""What nearly every one of these profits from (arXiv:2006.05990, section 3.2)."""

SCALED: tuple[FriendSpec, ...] = (
    friend("ObservationNormalizer"),
    friend("ObservationClip", limit=10.0),
    friend("RewardScale", factor=0.1),
    friend("ValueNormalizer"),
    friend("AdvantageNormalizer"),
)
"""For those that run: a constant scale of rewards, and a critic that learns normalised returns."""

TAPERED = NetworkSettings(actor_hidden=(256, 128, 64), critic_hidden=(256, 128, 64), activation="elu")
"""For bodies with many joints: HalfCheetah learns about twice as fast as with 64-64 tanh."""


FADING_NOISE: FriendSpec = friend("StdClip", limit=linear(1.0, 0.1))
"""For those that run fast: what is best without noise isn't what is best with it."""


@launcher("InvertedPendulum", id="InvertedPendulum-v5", spaces="4 -> Box(1)")
def inverted_pendulum() -> Experiment:
    """Balance a pole on a cart, in three dimensions."""
    return Experiment(
        name="InvertedPendulum",
        environment=EnvironmentSettings(id="InvertedPendulum-v5", num_envs=16),
        num_timesteps=150_000,
        reward_threshold=1000.0,
        ppo=PPOSettings(
            rollout_timesteps=2048,
            minibatch_size=256,
            epochs=10,
            learning_rate=linear(1e-3),
            gamma=0.999,
            gae_lambda=0.9,
        ),
        friends=NORMALIZERS,
    )


@launcher("InvertedDoublePendulum", id="InvertedDoublePendulum-v5", spaces="9 -> Box(1)")
def inverted_double_pendulum() -> Experiment:
    """Balance two poles, one on top of the other."""
    return Experiment(
        name="InvertedDoublePendulum",
        # Many environments, since a policy that balances for 1000 steps sees few beginnings.
        environment=EnvironmentSettings(id="InvertedDoublePendulum-v5", num_envs=64),
        num_timesteps=1_000_000,
        reward_threshold=9340.0,
        ppo=PPOSettings(
            rollout_timesteps=8192,
            minibatch_size=1024,
            epochs=10,
            learning_rate=linear(5e-4),
            gamma=0.98,
            gae_lambda=0.8,
        ),
        # Observations stay as they are: once it balances, hardly any varies, and normalised beginnings
        # would lie far outside (the last poles fell there).
        friends=(
            # A beginning of every environment in each rollout, since rare ones made it fall. No episode is
            # whole then: the training score is of the falls alone.
            friend("HardReset"),
            friend("RewardScale", factor=0.05),
            friend("AdvantageNormalizer"),
            friend("AdaptiveLearningRate", target=0.005, decide="step"),
        ),
    )


@launcher("Hopper", id="Hopper-v5", spaces="11 -> Box(3)")
def hopper() -> Experiment:
    """Hop forward on one leg."""
    return Experiment(
        name="Hopper",
        environment=EnvironmentSettings(id="Hopper-v5", num_envs=64),
        num_timesteps=4_000_000,
        reward_threshold=3500.0,
        ppo=PPOSettings(
            rollout_timesteps=8192,
            minibatch_size=1024,
            epochs=8,
            learning_rate=linear(6e-4),
            gamma=0.993,  # at 0.99 it forgets beginnings, and falls; at 0.995 it hops more slowly
        ),
        network=TAPERED,
        friends=(*SCALED, friend("AdvantageRecompute"), FADING_NOISE),
    )


@launcher("Walker2d", id="Walker2d-v5", spaces="17 -> Box(6)")
def walker_2d() -> Experiment:
    """Walk forward on two legs, in a plane."""
    return Experiment(
        name="Walker2d",
        environment=EnvironmentSettings(id="Walker2d-v5", num_envs=64),
        num_timesteps=10_000_000,
        reward_threshold=6000.0,
        ppo=PPOSettings(rollout_timesteps=8192, minibatch_size=2048, epochs=5),
        friends=(*SCALED, friend("AdaptiveLearningRate", target=0.01, decide="step")),
    )


@launcher("HalfCheetah", id="HalfCheetah-v5", spaces="17 -> Box(6)")
def half_cheetah() -> Experiment:
    """Run forward."""
    return Experiment(
        name="HalfCheetah",
        environment=EnvironmentSettings(id="HalfCheetah-v5", num_envs=64),
        num_timesteps=10_000_000,
        reward_threshold=7500.0,
        # With rollouts of 4096 it slid along on its back, and stayed at 1,800.
        ppo=PPOSettings(rollout_timesteps=16_384, minibatch_size=2048, epochs=8),
        network=TAPERED,
        friends=(
            *SCALED,
            friend("AdvantageRecompute"),
            # Half the divergence at the end; a fifth of it learned too slowly already half way.
            friend("AdaptiveLearningRate", target=linear(0.02, 0.01)),
            FADING_NOISE,
        ),
    )


@launcher("Swimmer", id="Swimmer-v5", spaces="8 -> Box(2)")
def swimmer() -> Experiment:
    """Swim forward; a stroke pays only much later."""
    return Experiment(
        name="Swimmer",
        environment=EnvironmentSettings(id="Swimmer-v5", num_envs=16),
        num_timesteps=3_000_000,
        reward_threshold=355.0,
        ppo=PPOSettings(
            rollout_timesteps=16_000,  # every environment plays about one whole episode
            minibatch_size=800,
            epochs=10,
            learning_rate=linear(1e-3),
            gamma=0.9999,
            gae_lambda=0.98,
        ),
        network=NetworkSettings(actor_hidden=(128, 64), critic_hidden=(128, 64), activation="elu"),
        friends=(*NORMALIZERS, friend("AdvantageRecompute")),
    )


@launcher("Ant", id="Ant-v5", spaces="105 -> Box(8)")
def ant() -> Experiment:
    """Run forward on four legs."""
    return Experiment(
        name="Ant",
        environment=EnvironmentSettings(id="Ant-v5", num_envs=64),
        num_timesteps=20_000_000,
        reward_threshold=6000.0,
        ppo=PPOSettings(
            rollout_timesteps=4096, minibatch_size=2048, epochs=4, value_coefficient=1.0, max_grad_norm=1.0
        ),
        network=TAPERED,
        friends=(*SCALED, friend("AdaptiveLearningRate", target=0.008, decide="step"), FADING_NOISE),
    )


@launcher("Humanoid", id="Humanoid-v5", spaces="348 -> Box(17)")
def humanoid() -> Experiment:
    """Run forward on two legs, with arms."""
    return Experiment(
        name="Humanoid",
        environment=EnvironmentSettings(id="Humanoid-v5", num_envs=64),
        num_timesteps=20_000_000,
        reward_threshold=10_000.0,
        ppo=PPOSettings(
            rollout_timesteps=8192, minibatch_size=2048, epochs=5, value_coefficient=2.0, max_grad_norm=1.0
        ),
        network=NetworkSettings(
            actor_hidden=(512, 256, 128), critic_hidden=(512, 256, 128), activation="elu"
        ),
        friends=(*SCALED, friend("AdaptiveLearningRate", target=0.008, decide="step"), FADING_NOISE),
    )


@launcher("HumanoidStandup", id="HumanoidStandup-v5", spaces="348 -> Box(17)")
def humanoid_standup() -> Experiment:
    """Stand up from lying on the back."""
    return Experiment(
        name="HumanoidStandup",
        environment=EnvironmentSettings(id="HumanoidStandup-v5", num_envs=128),
        num_timesteps=10_000_000,
        reward_threshold=295_000.0,
        # Sample-Factory's settings for it, synchronous, which reach 294k and 319k on two seeds.
        ppo=PPOSettings(
            rollout_timesteps=8192, minibatch_size=2048, epochs=4, value_coefficient=2.0, max_grad_norm=1.0
        ),
        network=TAPERED,
        friends=(*SCALED, friend("AdaptiveLearningRate", target=0.008, decide="step"), FADING_NOISE),
    )
