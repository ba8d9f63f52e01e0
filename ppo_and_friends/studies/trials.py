"""A trial of a tuning: what is tried, and its training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppo_and_friends.api.run import Interrupted, Run
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.errors import PPOError, UsageError
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.overrides import change_friends
from ppo_and_friends.studies.search_space import Dimension, check_space

EVALUATIONS = 10
"""Intermediate evaluations of a trial."""

COUNTED = 3
"""Last evaluations whose mean is a trial's score."""

STOPPED = "interrupted"
"""Attribute of a trial that a signal ended; it doesn't count."""


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


def trial_experiment(tuning: Tuning, changes: dict[str, Any], number: int) -> Experiment:
    """The experiment of a trial: its settings, its own seed, and an Evaluator."""
    every = max(1, tuning.timesteps // EVALUATIONS)
    experiment = tuning.experiment.with_changes(
        changes,
        num_timesteps=tuning.timesteps,
        random_seed=(tuning.experiment.random_seed + number) % 2**63,
    )
    return change_friends(experiment, [f"Evaluator:every={every},episodes={tuning.episodes}"], [])


def train_trial(
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
