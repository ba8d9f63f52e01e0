"""The command that tunes settings."""

from __future__ import annotations

from ppo_and_friends.cli.apply_options import apply_options
from ppo_and_friends.cli.study_options import AllOptions
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.cores import usable_cores
from ppo_and_friends.settings.registry import resolve
from ppo_and_friends.studies.rank_groups import divide_into_groups
from ppo_and_friends.studies.search_space import default_space, load_space, space_text
from ppo_and_friends.studies.trials import Tuning
from ppo_and_friends.studies.tuning import tune, tune_in_groups
from ppo_and_friends.studies.tuning_results import write_results


def tune_command(options: AllOptions, communicator: Communicator) -> int:
    """Tune an environment's settings and write a launcher with the best ones. Called on every rank.

    Returns:
        0, or 130 if it was interrupted; the same command goes on.

    Raises:
        UsageError: The request can't be carried out.
    """
    assert options.environment is not None and options.tune is not None
    experiment = apply_options(resolve(options.environment), options)
    space = default_space(experiment) if options.tune_space is None else load_space(options.tune_space)
    timesteps = options.tune_timesteps or max(10, experiment.num_timesteps // 5)
    folder = options.state_path / f"{experiment.name}-tuning"
    tuning = Tuning(experiment, space, folder, options.tune, timesteps).checked()
    if communicator.is_main:
        print(f"Tuning {experiment.name}: {tuning.trials} trials of {timesteps:,} timesteps, over")
        print(f"{space_text(space)}\n(Save these lines, change them, and give them with --tune_space FILE.)")
    try:
        if communicator.size > 1:
            group, number = divide_into_groups(communicator, options.group)
            study = tune_in_groups(tuning, communicator, group, number)
        else:
            study = tune(tuning, min(options.jobs or usable_cores(), tuning.trials))
    except KeyboardInterrupt:
        if communicator.is_main:
            print("The same command resumes from there.")
        return 130
    if communicator.is_main:
        paths = write_results(tuning, study, options.environment)
        print(f"Train with them: python main.py -e {paths[0]}:tuned\nPlots: {paths[2]}")
    communicator.barrier()
    return 0
