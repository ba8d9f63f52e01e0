"""Launchers for environments with several agents. They need the extra ``petting``.

In ``mpe2`` (Lowe et al. 2017, arXiv:1706.02275) observations don't tell how much of the 25 steps is left.
With a gamma of 0.95, and values that go on behind the last step, a state is worth nearly the same at all
times. With 0.99 most of what returns differ in is time, and agents learn several times slower.
"""

from __future__ import annotations

from ppo_and_friends.settings.experiment import (
    AgentSettings,
    EnvironmentSettings,
    Experiment,
    NetworkSettings,
    PPOSettings,
    Schedule,
    friend,
    linear,
)
from ppo_and_friends.settings.registry import launcher

SPREAD = "mpe2.simple_spread_v3"
SPEAKER_LISTENER = "mpe2.simple_speaker_listener_v4"
TAG = "mpe2.simple_tag_v3"
MULTIWALKER = "pettingzoo.sisl.multiwalker_v9"
TUPLES = "ppo_and_friends.environments.tuple_spaces"
CONNECT_FOUR = "pettingzoo.classic.connect_four_v3:raw_env"


def _particles(
    name: str, id: str, agents: int, settings: AgentSettings, *, budget: int, target: float
) -> Experiment:
    """The particle environments with equal settings; a rollout is an episode of each agent.

    With a fourth of these environments, a speaker's words stayed noise: too few goals in a minibatch.
    """
    return Experiment(
        name=name,
        environment=EnvironmentSettings(id=id, api="petting_zoo", num_envs=128),
        num_timesteps=budget,
        reward_threshold=target,
        ppo=PPOSettings(
            rollout_timesteps=128 * agents * 26,  # an episode has 25 steps, and the reset behind them
            minibatch_size=128 * 26,
            epochs=15,
            gamma=0.95,
            learning_rate=linear(1e-3),
            entropy_coefficient=Schedule(0.01),
        ),
        agents=settings,
        friends=(
            friend("ObservationNormalizer"),
            friend("ObservationClip", limit=10.0),
            friend("RewardNormalizer"),
            friend("AdvantageNormalizer"),
        ),
    )


@launcher("SimpleSpread", id=SPREAD, spaces="18 -> Discrete(5)")
def simple_spread() -> Experiment:
    """Three agents cover three landmarks without colliding; each critic sees what its agent does (IPPO)."""
    return _particles("SimpleSpread", SPREAD, 3, AgentSettings(), budget=1_500_000, target=-17.0)


@launcher("SimpleSpreadCentral", id=SPREAD, spaces="18 -> Discrete(5)")
def simple_spread_central() -> Experiment:
    """The same with a critic that sees the whole state (MAPPO)."""
    agents = AgentSettings(critic="state")
    return _particles("SimpleSpreadCentral", SPREAD, 3, agents, budget=1_500_000, target=-17.0)


@launcher("SimpleSpeakerListener", id=SPEAKER_LISTENER, spaces="3 and 11 -> Discrete(3) and Discrete(5)")
def simple_speaker_listener() -> Experiment:
    """One agent knows the goal and speaks, the other hears and goes; two policies, critics see the state."""
    policies = {"speaker_0": "speaker", "listener_0": "listener"}
    agents = AgentSettings(critic="state", policies=policies)
    return _particles("SimpleSpeakerListener", SPEAKER_LISTENER, 2, agents, budget=1_000_000, target=-8.0)


@launcher("SimpleTag", id=TAG, spaces="16 and 14 -> Discrete(5)")
def simple_tag() -> Experiment:
    """Three slower agents chase a faster one; each side has a policy, both learn at once."""
    agents = AgentSettings(policies={"adversary_*": "adversary", "*": "prey"})
    return _particles("SimpleTag", TAG, 4, agents, budget=1_000_000, target=0.0)


@launcher("Multiwalker", id=MULTIWALKER, spaces="31 -> Box(4)")
def multiwalker() -> Experiment:
    """Three walkers carry a package forward without dropping it."""
    return Experiment(
        name="Multiwalker",
        environment=EnvironmentSettings(id=MULTIWALKER, api="petting_zoo", num_envs=16),
        num_timesteps=6_000_000,
        reward_threshold=20.0,
        ppo=PPOSettings(
            rollout_timesteps=12_288,
            minibatch_size=1536,
            epochs=10,
            learning_rate=linear(3e-4),
            clip_range=linear(0.2, 0.1),
        ),
        agents=AgentSettings(reward="team"),
        friends=(
            friend("ObservationNormalizer"),
            friend("ObservationClip", limit=10.0),
            friend("AgentIndex"),
            friend("RewardNormalizer"),
            friend("RewardClip", low=-10.0, high=10.0),
            friend("AdvantageNormalizer"),
        ),
    )


@launcher("ConnectFour", id=CONNECT_FOUR, spaces="84 -> Discrete(7)")
def connect_four() -> Experiment:
    """Two players in turns, who learn from games against themselves and their past versions."""
    return Experiment(
        name="ConnectFour",
        # Masks forbid illegal moves: PettingZoo's wrappers against these would cost a third of the time.
        environment=EnvironmentSettings(id=CONNECT_FOUR, api="petting_zoo", num_envs=64),
        num_timesteps=1_000_000,
        reward_threshold=0.0,
        ppo=PPOSettings(
            rollout_timesteps=64 * 2 * 128,
            minibatch_size=2048,
            epochs=4,
            learning_rate=linear(5e-4),
            entropy_coefficient=Schedule(0.02),
        ),
        network=NetworkSettings(actor_hidden=(256, 256), critic_hidden=(256, 256), activation="relu"),
        friends=(
            # The pool keeps all of them, the first, which plays at random, too.
            friend("SelfPlay", save_steps=100_000),
            friend("AdvantageNormalizer"),
        ),
    )


@launcher("LevelBasedForaging", id=f"{TUPLES}:lbforaging", spaces="15 -> Discrete(6)")
def level_based_foraging() -> Experiment:
    """Three agents on 8x8 squares load food that some are strong enough for only together (MAPPO)."""
    return Experiment(
        name="LevelBasedForaging",
        environment=EnvironmentSettings(id=f"{TUPLES}:lbforaging", api="petting_zoo", num_envs=32),
        num_timesteps=3_000_000,
        reward_threshold=0.25,
        ppo=PPOSettings(
            rollout_timesteps=32 * 3 * 128,
            minibatch_size=1536,
            epochs=5,
            learning_rate=linear(5e-4),
            entropy_coefficient=linear(0.01),
        ),
        network=NetworkSettings(actor_hidden=(128, 128), critic_hidden=(128, 128)),
        agents=AgentSettings(critic="all"),
        friends=(friend("AgentIndex"), friend("RewardNormalizer"), friend("AdvantageNormalizer")),
    )


@launcher("RWARE", id=f"{TUPLES}:rware", spaces="71 -> Discrete(5)")
def robotic_warehouse() -> Experiment:
    """Three robots in a tiny warehouse bring the shelves that are asked for; rewards are sparse (MAPPO)."""
    return Experiment(
        name="RWARE",
        environment=EnvironmentSettings(id=f"{TUPLES}:rware", api="petting_zoo", num_envs=32),
        num_timesteps=20_000_000,
        reward_threshold=11.0,
        ppo=PPOSettings(
            rollout_timesteps=32 * 3 * 500,
            minibatch_size=12_000,
            epochs=5,
            learning_rate=linear(5e-4),
            entropy_coefficient=Schedule(0.015, 0.01),
        ),
        network=NetworkSettings(actor_hidden=(128, 128), critic_hidden=(128, 128), activation="relu"),
        agents=AgentSettings(critic="all", reward="team"),
        friends=(friend("AgentIndex"), friend("RewardNormalizer"), friend("AdvantageNormalizer")),
    )
