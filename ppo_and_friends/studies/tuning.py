"""Tunes settings with Optuna: TPE proposes them, successive halving ends what doesn't promise much.

Akiba et al. 2019, arXiv:1907.10902; Bergstra et al. 2011 (TPE); Li et al. 2018, arXiv:1810.05934 (ASHA).
"""

from __future__ import annotations

import math
import multiprocessing
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ppo_and_friends.api.run import Interrupted, Run
from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.errors import PPOError, UsageError
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.overrides import change_friends
from ppo_and_friends.studies.search_space import Dimension, check_space, own_parameters, space_text

JOURNAL = "journal.log"
EVALUATIONS = 10
"""Intermediate evaluations of a trial."""

COUNTED = 3
"""Last evaluations whose mean is a trial's score."""

FIRST_RUNG, REDUCTION = 2, 3
"""Successive halving after 2 and 6 evaluations; the best third goes on."""

STOPPED = "interrupted"
"""Attribute of a trial that a signal ended; it doesn't count."""

STARTUP = 10
"""Trials before TPE has anything to learn from."""


@dataclass(frozen=True)
class Tuning:
    """What is tuned, and how long."""

    experiment: Experiment
    """The settings to start from; they are the first trial, too."""

    space: tuple[Dimension, ...]
    folder: Path
    """On a file system that all processes share."""

    trials: int
    """In all, earlier sessions included."""

    timesteps: int
    """Agent steps of a trial."""

    episodes: int = 10
    """Of an evaluation."""

    def checked(self) -> Tuning:
        """This, if it can be carried out.

        Raises:
            UsageError: It can't.
        """
        if self.trials < 1 or self.timesteps < EVALUATIONS:
            raise UsageError(f"--tune needs at least 1 trial, and --tune_timesteps at least {EVALUATIONS}.")
        require_optuna()
        check_space(self.experiment, self.space)
        return self


def require_optuna() -> Any:
    """Import Optuna.

    Raises:
        UsageError: It isn't installed.
    """
    try:
        import optuna
    except ImportError:
        raise UsageError(
            "--tune needs a package that isn't installed: pip install 'ppo-and-friends[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


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
        _train(tuning, study, trial, number, changes, group)


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


def trial_experiment(tuning: Tuning, changes: dict[str, Any], number: int) -> Experiment:
    """The experiment of a trial: its settings, its own seed, and an Evaluator."""
    every = max(1, tuning.timesteps // EVALUATIONS)
    experiment = tuning.experiment.with_changes(
        changes,
        num_timesteps=tuning.timesteps,
        random_seed=(tuning.experiment.random_seed + number) % 2**63,
    )
    return change_friends(experiment, [f"Evaluator:every={every},episodes={tuning.episodes}"], [])


def _train(
    tuning: Tuning, study: Any, trial: Any, number: int, changes: dict[str, Any], group: Communicator
) -> None:
    """Train one trial and tell its outcome. Collective."""
    optuna = require_optuna()
    states = optuna.trial.TrialState
    scores: list[float] = []
    state, stopped = states.COMPLETE, None
    try:
        experiment = trial_experiment(tuning, changes, number)
        with Run(experiment, communicator=group, verbosity=-1) as run:
            seen = 0
            for metrics in run.iterations():
                due = min(EVALUATIONS, int(metrics["timesteps"] * EVALUATIONS // tuning.timesteps))
                score = metrics["Evaluator/score"]
                if due <= seen or math.isnan(score):
                    continue
                seen = due
                scores.append(score)
                if group.broadcast(group.is_main and _prune(trial, score, seen)):
                    state = states.PRUNED
                    break
    except Interrupted as error:
        state, stopped = states.FAIL, error
        if group.is_main:
            trial.set_user_attr(STOPPED, True)
    except PPOError as error:
        state = states.FAIL
        if group.is_main:
            trial.set_user_attr("error", str(error).partition("\n")[0])
    if state == states.COMPLETE and not scores:
        state = states.FAIL
    if group.is_main:
        last = scores[-COUNTED:]
        value = sum(last) / len(last) if last and state == states.COMPLETE else None
        study.tell(trial, value, state=state)
        _report(trial.number, state.name.lower(), scores)
    if stopped is not None:
        if group.is_main:
            study.enqueue_trial(trial.params)
        raise stopped


def _prune(trial: Any, score: float, step: int) -> bool:
    trial.report(score, step)
    return bool(trial.should_prune())


def _report(number: int, state: str, scores: Sequence[float]) -> None:
    last = f", score {sum(scores[-COUNTED:]) / len(scores[-COUNTED:]):.4g}" if scores else ""
    print(f"trial {number}: {state} after {len(scores)} evaluations{last}", flush=True)


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
