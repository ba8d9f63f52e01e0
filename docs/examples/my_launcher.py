"""A launcher: a function that returns an Experiment. The run's folder is named after the experiment."""

from __future__ import annotations

from ppo_and_friends.settings.experiment import EnvironmentSettings, Experiment, PPOSettings, friend, linear


def reach() -> Experiment:
    """Settings for the environment in my_robot.py."""
    return Experiment(
        name="Reach",
        environment=EnvironmentSettings(id="my_robot:Reach", num_envs=8),
        num_timesteps=50_000,
        ppo=PPOSettings(rollout_timesteps=1024, minibatch_size=256, learning_rate=linear(3e-3)),
        friends=(friend("ObservationNormalizer"), friend("AdvantageNormalizer")),
    )


long_reach = reach().with_changes({"environment.arguments.steps": 200})
"""An Experiment object works as well."""
