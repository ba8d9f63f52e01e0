"""Launchers for MuJoCo: balancing, hopping, running, swimming, standing up."""

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
"""Normalisation that improves nearly all of these environments (arXiv:2006.05990, section 3.2)."""

SCALED: tuple[FriendSpec, ...] = (
    friend("ObservationNormalizer"),
    friend("ObservationClip", limit=10.0),
    friend("RewardScale", factor=0.1),
    friend("ValueNormalizer"),
    friend("AdvantageNormalizer"),
)
"""For locomotion: rewards scaled by a constant, and a critic that predicts normalised returns."""

TAPERED = NetworkSettings(actor_hidden=(256, 128, 64), critic_hidden=(256, 128, 64), activation="elu")
"""For bodies with many joints; HalfCheetah learns about twice as fast as with two tanh layers of 64."""


FADING_NOISE: FriendSpec = friend("StdClip", limit=linear(1.0, 0.1))
"""For fast locomotion: a policy that is optimal with exploration noise isn't optimal without it."""


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
        # Many environments, because a policy that balances for 1000 steps sees few initial states.
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
        # Observations are not normalised: once the poles are balanced, observations hardly vary, so that
        # normalised initial states would be far out of range (which made the poles fall).
        friends=(
            # Resets all environments at each rollout, because rare initial states made the poles fall.
            # Only episodes that end early are then complete, so the training score is of those alone.
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
            gamma=0.993,  # with 0.99 it unlearns initial states and falls; with 0.995 it hops more slowly
        ),
        network=TAPERED,
        friends=(*SCALED, friend("AdvantageRecompute"), FADING_NOISE),
    )


@launcher("Walker2d", id="Walker2d-v5", spaces="17 -> Box(6)")
def walker_2d() -> Experiment:
    """Walk forward on two legs, in two dimensions."""
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
    """Run forward on two legs, in two dimensions."""
    return Experiment(
        name="HalfCheetah",
        environment=EnvironmentSettings(id="HalfCheetah-v5", num_envs=64),
        num_timesteps=10_000_000,
        reward_threshold=7500.0,
        # With rollouts of 4096 timesteps it learned to slide on its back, with a score of 1,800.
        ppo=PPOSettings(rollout_timesteps=16_384, minibatch_size=2048, epochs=8),
        network=TAPERED,
        friends=(
            *SCALED,
            friend("AdvantageRecompute"),
            # The KL target halves over the run; with a fall to a fifth, learning was too slow by mid-run.
            friend("AdaptiveLearningRate", target=linear(0.02, 0.01)),
            FADING_NOISE,
        ),
    )


@launcher("Swimmer", id="Swimmer-v5", spaces="8 -> Box(2)")
def swimmer() -> Experiment:
    """Swim forward; the effect of a stroke on the reward is strongly delayed."""
    return Experiment(
        name="Swimmer",
        environment=EnvironmentSettings(id="Swimmer-v5", num_envs=16),
        num_timesteps=3_000_000,
        reward_threshold=355.0,
        ppo=PPOSettings(
            rollout_timesteps=16_000,  # 1000 steps per environment, one whole episode
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
    """Run forward as a humanoid with two legs and two arms."""
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
    """Stand up from lying on the ground."""
    return Experiment(
        name="HumanoidStandup",
        environment=EnvironmentSettings(id="HumanoidStandup-v5", num_envs=128),
        num_timesteps=10_000_000,
        reward_threshold=295_000.0,
        # Sample Factory's settings, but synchronous; they reach 294k and 319k with two seeds.
        ppo=PPOSettings(
            rollout_timesteps=8192, minibatch_size=2048, epochs=4, value_coefficient=2.0, max_grad_norm=1.0
        ),
        network=TAPERED,
        friends=(*SCALED, friend("AdaptiveLearningRate", target=0.008, decide="step"), FADING_NOISE),
    )
