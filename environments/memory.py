"""Launchers for environments that need memory: no observation tells all that matters.

Those of POPGym (Morad et al. 2023, openreview.net/forum?id=chDrutUTs0K) need the extra ``memory``.
"""

from __future__ import annotations

from ppo_and_friends.settings.experiment import (
    EnvironmentSettings,
    Experiment,
    NetworkSettings,
    PPOSettings,
    Schedule,
    friend,
    linear,
    steps,
)
from ppo_and_friends.settings.registry import launcher

HIDDEN = "ppo_and_friends.environments.partially_observed"


@launcher("CartPolePositions", id="CartPole-v1", spaces="2 -> Discrete(2)")
def cart_pole_positions() -> Experiment:
    """Balance a pole on a cart without being told how fast either moves."""
    return Experiment(
        name="CartPolePositions",
        environment=EnvironmentSettings(
            id="CartPole-v1", num_envs=16, wrappers=(f"{HIDDEN}:CartPolePositions",)
        ),
        num_timesteps=150_000,
        reward_threshold=475.0,
        ppo=PPOSettings(
            rollout_timesteps=2048,
            minibatch_size=256,
            epochs=8,
            sequence_length=16,
            learning_rate=linear(1e-3),
            clip_range=linear(0.2),
            gae_lambda=0.9,
        ),
        network=NetworkSettings(memory="lstm"),
        friends=(friend("ObservationNormalizer"), friend("RewardNormalizer"), friend("AdvantageNormalizer")),
    )


def _pendulum(name: str, wrapper: str, critic_observations: tuple[str, ...] = ()) -> Experiment:
    """Pendulum without its velocity, but for what the critic alone sees."""
    return Experiment(
        name=name,
        environment=EnvironmentSettings(
            id="Pendulum-v1",
            num_envs=16,
            wrappers=(f"{HIDDEN}:{wrapper}",),
            critic_observations=critic_observations,
        ),
        num_timesteps=300_000,
        reward_threshold=-200.0,
        ppo=PPOSettings(
            rollout_timesteps=4096,
            minibatch_size=256,
            epochs=10,
            sequence_length=8,
            learning_rate=linear(1e-3),
            gamma=0.98,
        ),
        network=NetworkSettings(memory="gru"),
        friends=(
            friend("CorrelatedNoise", exponent=0.5),
            friend("RewardScale", factor=0.1),
            friend("AdvantageNormalizer"),
        ),
    )


@launcher("PendulumPositions", id="Pendulum-v1", spaces="2 -> Box(1)")
def pendulum_positions() -> Experiment:
    """Swing a pendulum up without being told how fast it turns."""
    return _pendulum("PendulumPositions", "PendulumPositions")


@launcher("PendulumPrivileged", id="Pendulum-v1", spaces="2 -> Box(1)")
def pendulum_privileged() -> Experiment:
    """The same with a critic that is told."""
    return _pendulum("PendulumPrivileged", "PendulumParts", ("velocity",))


@launcher("TMaze", id=f"{HIDDEN}:TMaze", spaces="3 -> Discrete(4)")
def t_maze() -> Experiment:
    """Remember a sign for 50 steps, then turn the way it said."""
    return Experiment(
        name="TMaze",
        environment=EnvironmentSettings(id=f"{HIDDEN}:TMaze", num_envs=32),
        num_timesteps=500_000,
        reward_threshold=3.9,
        ppo=PPOSettings(
            rollout_timesteps=4096,
            minibatch_size=2048,
            epochs=8,
            sequence_length=64,  # from the junction back to the sign
            # Once every turn is right, gradients are hundreds of times smaller than that of a rare mistake,
            # which Adam, used to the former, answers by a step of many times the learning rate. With 0.002
            # falling to 0, what was learned was lost again for up to 80,000 timesteps.
            learning_rate=steps(2e-3, (3.8, 2e-4), by="episode_return_mean_100"),
            entropy_coefficient=Schedule(0.01),
        ),
        network=NetworkSettings(memory="gru", memory_span=100, memory_place="after"),
        # Then, too, advantages are the critic's noise; the summand keeps it from being scaled up to 1.
        friends=(friend("AdvantageNormalizer", epsilon=0.2),),
    )


def _popgym(name: str, env: str, sequence_length: int, gamma: float = 0.9) -> Experiment:
    """POPGym's tasks with equal settings, but for the chunks: as long as what is to be remembered.

    An answer doesn't change what comes next, so that the rewards after it are noise. Where answers are hard
    to learn, gamma is 0: RepeatPreviousMedium then begins to learn after 130,000 timesteps, not 500,000.
    """
    return Experiment(
        name=name,
        environment=EnvironmentSettings(id=f"popgym:popgym-{env}-v0", num_envs=32),
        num_timesteps=1_000_000,
        reward_threshold=0.9,
        ppo=PPOSettings(
            rollout_timesteps=4096,
            minibatch_size=32 * max(32, sequence_length),  # a chunk of each environment at least
            epochs=8,
            sequence_length=sequence_length,
            learning_rate=linear(1e-3),
            entropy_coefficient=linear(0.01, 0.01),
            gamma=gamma,
        ),
        network=NetworkSettings(memory="lstm", memory_width=128, memory_span=sequence_length),
        friends=(friend("AdvantageNormalizer"),),
    )


@launcher("RepeatPreviousEasy", id="popgym:popgym-RepeatPreviousEasy-v0", spaces="4 -> Discrete(4)")
def repeat_previous_easy() -> Experiment:
    """Name the suit of the card before the last three."""
    return _popgym("RepeatPreviousEasy", "RepeatPreviousEasy", 16)


@launcher("RepeatPreviousMedium", id="popgym:popgym-RepeatPreviousMedium-v0", spaces="4 -> Discrete(4)")
def repeat_previous_medium() -> Experiment:
    """Name the suit of the card 32 cards ago."""
    return _popgym("RepeatPreviousMedium", "RepeatPreviousMedium", 64, gamma=0.0)


@launcher("AutoencodeEasy", id="popgym:popgym-AutoencodeEasy-v0", spaces="6 -> Discrete(4)")
def autoencode_easy() -> Experiment:
    """Watch a deck of cards, then name them all, the last one first."""
    return _popgym("AutoencodeEasy", "AutoencodeEasy", 128, gamma=0.0)


@launcher("StatelessCartPole", id="popgym:popgym-PositionOnlyCartPoleEasy-v0", spaces="2 -> Discrete(2)")
def stateless_cart_pole() -> Experiment:
    """Balance a pole for 200 steps by positions alone, as POPGym has it."""
    return _popgym("StatelessCartPole", "PositionOnlyCartPoleEasy", 16, gamma=0.99)
