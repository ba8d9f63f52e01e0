"""Launchers for Atari: two games, each from pixels and from the console's 128 bytes of RAM."""

from __future__ import annotations

from ppo_and_friends.settings.experiment import (
    AtariSettings,
    EnvironmentSettings,
    Experiment,
    NetworkSettings,
    PPOSettings,
    Schedule,
    friend,
    linear,
)
from ppo_and_friends.settings.registry import launcher


def _pixels(name: str, id: str, reward_threshold: float, gae_lambda: float = 0.95) -> Experiment:
    return Experiment(
        name=name,
        environment=EnvironmentSettings(id=id, num_envs=8, atari=AtariSettings()),
        num_timesteps=10_000_000,
        reward_threshold=reward_threshold,
        ppo=PPOSettings(
            rollout_timesteps=1024,
            minibatch_size=256,
            epochs=4,
            learning_rate=linear(2.5e-4),
            clip_range=Schedule(0.1),
            entropy_coefficient=Schedule(0.01),
            gae_lambda=gae_lambda,
        ),
        friends=(friend("AdvantageNormalizer"),),
    )


def _ram(name: str, id: str, reward_threshold: float) -> Experiment:
    return Experiment(
        name=name,
        environment=EnvironmentSettings(id=id, num_envs=32, atari=AtariSettings(observation="ram")),
        num_timesteps=10_000_000,
        reward_threshold=reward_threshold,
        ppo=PPOSettings(
            rollout_timesteps=4096,
            minibatch_size=1024,
            epochs=4,
            learning_rate=linear(5e-4),
            clip_range=Schedule(0.1),
            entropy_coefficient=Schedule(0.01),
        ),
        network=NetworkSettings(actor_hidden=(128, 128), critic_hidden=(256, 256), activation="relu"),
        friends=(friend("AdvantageNormalizer"),),
    )


@launcher("BreakoutPixels", id="BreakoutNoFrameskip-v4", spaces="4x84x84 pixels -> Discrete(4)")
def breakout_pixels() -> Experiment:
    """Break the bricks of a wall with a ball."""
    return _pixels("BreakoutPixels", "BreakoutNoFrameskip-v4", reward_threshold=420.0)


@launcher("BreakoutRAM", id="BreakoutNoFrameskip-v4", spaces="512 bytes -> Discrete(4)")
def breakout_ram() -> Experiment:
    """Break the bricks of a wall with a ball, observing the console's RAM."""
    return _ram("BreakoutRAM", "BreakoutNoFrameskip-v4", reward_threshold=350.0)


@launcher("AssaultPixels", id="AssaultNoFrameskip-v4", spaces="4x84x84 pixels -> Discrete(7)")
def assault_pixels() -> Experiment:
    """Shoot the enemies that a mother ship releases."""
    return _pixels("AssaultPixels", "AssaultNoFrameskip-v4", reward_threshold=6300.0, gae_lambda=0.85)


@launcher("AssaultRAM", id="AssaultNoFrameskip-v4", spaces="512 bytes -> Discrete(7)")
def assault_ram() -> Experiment:
    """Shoot the enemies that a mother ship releases, observing the console's RAM."""
    return _ram("AssaultRAM", "AssaultNoFrameskip-v4", reward_threshold=4000.0)
