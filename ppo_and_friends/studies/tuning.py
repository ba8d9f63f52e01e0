"""Tunes settings with Optuna: TPE proposes them, successive halving ends what doesn't promise much.

Akiba et al. 2019, arXiv:1907.10902; Bergstra et al. 2011 (TPE); Li et al. 2018, arXiv:1810.05934 (ASHA).
"""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from typing import Any

from ppo_and_friends.api.run import Interrupted
from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.errors import UsageError
from ppo_and_friends.studies.search_space import Dimension, own_parameters, space_text
from ppo_and_friends.studies.trials import STOPPED, Tuning, require_optuna, train_trial

JOURNAL = "journal.log"
FIRST_RUNG, REDUCTION = 2, 3
"""Successive halving after 2 and 6 evaluations; the best third goes on."""

STARTUP = 10
"""Trials before TPE has anything to learn from."""


def open_study(tuning: Tuning, worker: int = 0) -> Any:
    """Open or create the Optuna study of a folder; each process opens it for itself."""
    optuna = require_optuna()
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    tuning.folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.create_study(
            study_name=tuning.experiment.name,
            storage=JournalStorage(JournalFileBackend(str(tuning.folder / JOURNAL))),
            direction="maximize",
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(
                multivariate=True,
                n_startup_trials=STARTUP,
                seed=(tuning.experiment.random_seed + 1000 * worker) % 2**32,
            ),
            pruner=optuna.pruners.SuccessiveHalvingPruner(
                min_resource=FIRST_RUNG, reduction_factor=REDUCTION
            ),
        )


def prepare(tuning: Tuning) -> None:
    """Create the study, with the experiment's own settings as its first trial, or check the one there.

    Raises:
        UsageError: The folder has trials of another length or of another space.
    """
    study = open_study(tuning.checked())
    asked = {"timesteps": tuning.timesteps, "space": space_text(tuning.space)}
    if not study.trials:
        study.enqueue_trial(own_parameters(tuning.experiment, tuning.space))
        for name, value in asked.items():
            study.set_user_attr(name, value)
        return
    for name, value in asked.items():
        if study.user_attrs.get(name) != value:
            raise UsageError(
                f"{tuning.folder} has trials of another {name}, which can't be compared with these: use the "
                f"same one, or another --state_path.\nThere it is: {study.user_attrs.get(name)}"
            )


def tune(tuning: Tuning, jobs: int = 1) -> Any:
    """Run trials until there are as many as asked for, in ``jobs`` processes.

    Returns:
        The Optuna study.

    Raises:
        UsageError: The request can't be carried out.
        KeyboardInterrupt: It was interrupted; the same call goes on.
    """
    prepare(tuning)
    start = datetime.now()
    if jobs == 1:
        work(tuning, 0, start)
    else:
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            for future in [pool.submit(_work, tuning, worker, start) for worker in range(jobs)]:
                future.result()
    return open_study(tuning)


def work(tuning: Tuning, worker: int, start: datetime, communicator: Communicator | None = None) -> None:
    """One worker's trials: a process, or the ranks of a group. Collective over the group.

    Args:
        tuning: What to tune.
        worker: Its number.
        start: When this session began: trials that run since then are counted.
        communicator: The group; None: this process alone.

    Raises:
        KeyboardInterrupt: It was interrupted.
    """
    group = communicator or SoloCommunicator()
    study = on_main_only(group, lambda: open_study(tuning, worker))
    while True:
        trial = None
        if group.is_main and not _enough(study, tuning, start):
            trial = study.ask()
        asked = {} if trial is None else _suggested(tuning.space, trial)
        number, changes = group.broadcast((-1 if trial is None else trial.number, asked))
        if number < 0:
            return
        train_trial(tuning, study, trial, number, changes, group)


def _work(tuning: Tuning, worker: int, start: datetime) -> None:
    """`work` in a process of its own, from which an interrupted run can't be sent back."""
    try:
        work(tuning, worker, start)
    except Interrupted as error:
        raise KeyboardInterrupt(str(error)) from None


def on_main_only(group: Communicator, make: Any) -> Any:
    """What rank 0 alone needs; None on the others."""
    return make() if group.is_main else None


def _enough(study: Any, tuning: Tuning, start: datetime) -> bool:
    optuna = require_optuna()
    running = optuna.trial.TrialState.RUNNING
    waiting = optuna.trial.TrialState.WAITING
    count = 0
    for trial in study.get_trials(deepcopy=False):
        # A trial of an earlier session that still "runs" was killed with it.
        alive = trial.state != running or (trial.datetime_start is not None and trial.datetime_start >= start)
        # One that was interrupted was told so, and its settings wait to be tried again.
        count += alive and trial.state != waiting and not trial.user_attrs.get(STOPPED)
    return count >= tuning.trials


def _suggested(space: Sequence[Dimension], trial: Any) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for dimension in space:
        changes |= dimension.changes(dimension.ask(trial))
    return changes


def tune_in_groups(tuning: Tuning, world: Communicator, group: Communicator, number: int) -> Any:
    """Run trials in groups of MPI ranks. Collective.

    Args:
        tuning: What to tune; equal on all ranks.
        world: All ranks.
        group: This rank's group.
        number: The group's number.

    Returns:
        The Optuna study on rank 0 of the world, None on the others.
    """

    def begin() -> datetime:
        prepare(tuning)
        return datetime.now()

    work(tuning, number, on_main(world, begin), group)
    world.barrier()
    return open_study(tuning) if world.is_main else None
