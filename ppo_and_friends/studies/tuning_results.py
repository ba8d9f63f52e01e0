"""What tuning leaves behind: a launcher with the best settings, the importances, and plots."""

from __future__ import annotations

import json
import re
import warnings
from datetime import date
from operator import attrgetter
from pathlib import Path
from typing import Any

from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import Experiment, FriendSpec, Schedule
from ppo_and_friends.settings.overrides import setting_names
from ppo_and_friends.settings.registry import resolve
from ppo_and_friends.studies.search_space import Dimension, own_parameters
from ppo_and_friends.studies.trials import COUNTED, Tuning, require_optuna

LAUNCHER = '''\
"""{name} with the best settings of {trials} trials of {timesteps:,} timesteps ({date}).

Score, as the mean of a trial's last {counted} evaluations: {score:.4g} (the settings it began with: {own}).
"""

from dataclasses import replace

from ppo_and_friends import Experiment, launcher_experiment{friend}

SETTINGS = {{
{settings}
}}


def tuned() -> Experiment:
    """Train it with ``python main.py -e {path}:tuned``."""
    return replace(launcher_experiment({launcher}).with_changes(SETTINGS), name={tuned}{friends})
'''


FRIEND_IMPORT = "\nfrom ppo_and_friends.settings.experiment import friend"


def importances(study: Any) -> dict[str, float]:
    """How much of the scores' variation each setting explains (PED-ANOVA, arXiv:2304.10255); sums to 1."""
    optuna = require_optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
        except (ValueError, RuntimeError):  # too few trials, or all alike
            return {}
    return {str(name): float(value) for name, value in found.items()}


def write_results(tuning: Tuning, study: Any, launcher: str) -> list[Path]:
    """Write the launcher, ``tuning.json`` and ``tuning.html`` into the tuning's folder, and print a summary.

    Args:
        tuning: What was tuned.
        study: The Optuna study.
        launcher: What ``-e`` accepted.

    Returns:
        The files, the launcher first.

    Raises:
        UsageError: No trial was completed, or a file can't be written.
    """
    optuna = require_optuna()
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    if not complete:
        failed = [trial.user_attrs.get("error", "") for trial in study.trials]
        why = next(filter(None, failed), "run it again with more trials")
        raise UsageError(f"No trial was completed: {why}")
    best, shares = study.best_trial, importances(study)
    changes = settings_of(tuning.space, best.params)
    base = resolve(launcher)
    own_friends = tuning.experiment.friends != base.friends
    friends = "".join(f"        {_friend(spec)},\n" for spec in tuning.experiment.friends)
    begun = own_parameters(tuning.experiment, tuning.space)
    of_own = [trial.value for trial in complete if begun.items() <= trial.params.items()]
    own = f"{of_own[0]:.4g}" if of_own else "unknown"
    path = tuning.folder / f"{re.sub(r'[^0-9a-zA-Z]+', '_', tuning.experiment.name).lower()}_tuned.py"
    text = LAUNCHER.format(
        name=tuning.experiment.name,
        trials=len(study.trials),
        timesteps=tuning.timesteps,
        date=date.today(),
        counted=COUNTED,
        score=best.value,
        own=own,
        settings="\n".join(
            f"    {json.dumps(name)}: {_literal(value)},"
            for name, value in (changed_settings(base, tuning.experiment) | changes).items()
        ),
        friend=FRIEND_IMPORT if own_friends else "",
        friends=f", friends=(\n{friends}    )" if own_friends else "",
        launcher=json.dumps(launcher),
        tuned=json.dumps(f"{tuning.experiment.name}-tuned"),
        path=path,
    )
    record = {
        "best_score": best.value,
        "best_trial": best.number,
        "settings": changes,
        "importances": shares,
        "trials": [
            {
                "number": one.number,
                "state": one.state.name.lower(),
                "score": one.value,
                "settings": one.params,
            }
            for one in study.trials
        ],
    }
    numbers, page = tuning.folder / "tuning.json", tuning.folder / "tuning.html"
    try:
        replace_file(path, text.encode())
        replace_file(numbers, json.dumps(record, indent=1).encode())
        replace_file(page, plots(study).encode())
    except OSError as error:
        raise UsageError(f"{tuning.folder} can't be written: {error.strerror or error}.") from error
    print(f"Best of {len(study.trials)} trials: {best.value:.4g} (trial {best.number}; at first: {own})")
    for name, value in changes.items():
        share = next((part for key, part in shares.items() if name in key.split(",")), None)
        print(f"  {name} = {value}" + ("" if share is None else f"   (importance {share:.2f})"))
    return [path, numbers, page]


def _literal(value: Any) -> str:
    """A value as Python, with this project's quotes; lists as the tuples that settings are."""
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_literal, value))},)"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _friend(spec: FriendSpec) -> str:
    """A friend as a launcher has it."""
    arguments = [f"{name}={_literal(value)}" for name, value in spec.arguments.items()]
    return f"friend({', '.join([json.dumps(spec.name), *arguments])})"


def changed_settings(base: Experiment, experiment: Experiment) -> dict[str, Any]:
    """Settings in which an experiment differs from its launcher, but for friends."""
    changes: dict[str, Any] = {}
    for name in setting_names(experiment):
        value, before = (attrgetter(name)(each) for each in (experiment, base))
        if value != before:
            changes[name] = str(value) if isinstance(value, Schedule) else value
    return changes


def settings_of(space: tuple[Dimension, ...], parameters: dict[str, Any]) -> dict[str, Any]:
    """A trial's settings from what Optuna stored of it."""
    changes: dict[str, Any] = {}
    for dimension in space:
        if dimension.name in parameters:
            value = parameters[dimension.name]
            changes |= dimension.changes(json.loads(value) if dimension.kind == "choice" else value)
    return changes


def tuned_experiment(tuning: Tuning, study: Any) -> Experiment:
    """The experiment with the best trial's settings."""
    return tuning.experiment.with_changes(settings_of(tuning.space, study.best_params))


def plots(study: Any) -> str:
    """The study's plots, as one interactive page."""
    optuna = require_optuna()
    figures: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        views: Any = optuna.visualization
        figures += [views.plot_optimization_history(study), views.plot_intermediate_values(study)]
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        try:
            figures.append(views.plot_param_importances(study, evaluator=evaluator))
            figures.append(views.plot_slice(study))
        except (ValueError, RuntimeError):  # too few trials
            pass
    parts = [figure.to_html(full_html=False, include_plotlyjs=i == 0) for i, figure in enumerate(figures)]
    return f"<!doctype html><meta charset=utf-8><title>Tuning</title>{''.join(parts)}"
