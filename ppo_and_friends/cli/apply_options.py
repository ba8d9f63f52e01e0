"""What the command line changes in an experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ppo_and_friends.cli.options import Options

if TYPE_CHECKING:
    from ppo_and_friends.settings.experiment import Experiment


def apply_options(experiment: Experiment, options: Options) -> Experiment:
    """The experiment with everything that the command line changes.

    Raises:
        UsageError: An unknown setting or friend, a wrong value.
    """
    from ppo_and_friends.settings.overrides import apply_settings, change_friends

    experiment = change_friends(experiment, [*options.watching_friends, *options.with_], options.without)
    experiment = experiment.with_changes(
        num_timesteps=options.num_timesteps,
        num_envs=options.num_envs,
        random_seed=options.random_seed,
        device=options.device,
    )
    if options.exact_resume:
        experiment = experiment.with_changes({"exact_resume": True})
    return apply_settings(experiment, options.set)
