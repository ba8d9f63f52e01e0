"""An experiment's settings as a flat table, for trackers that compare runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.flat import flatten
from ppo_and_friends.settings.plain import experiment_settings

Value = bool | float | str

LEFT_OUT = ("name", "device", "checkpoint_seconds", "keep_checkpoints", "environment.backend")
"""Settings that change nothing about what is learned."""

SEED = "random_seed"

UNSET = (None, "[]", "{}")
"""Values that carry no information."""


def hyperparameters(experiment: Experiment, ranks: int) -> dict[str, Value]:
    """What is set, by dotted name (``ppo.clip_range``); schedules as ``start:end``, friends as one text."""
    settings = experiment_settings(experiment)
    friends = settings.pop("friends")
    flat = {
        name: value
        for name, value in flatten(settings).items()
        if name not in LEFT_OUT and value not in UNSET
    }
    flat["friends"] = ", ".join(
        one["name"] + "".join(f":{name}={value}" for name, value in one["arguments"].items())
        for one in friends
    )
    flat["ranks"] = ranks
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in flat.items()
    }


def hparams_summaries(experiment: Experiment, ranks: int, scores: Mapping[str, str]) -> list[Any]:
    """What TensorBoard's HParams tab needs of a run: its settings, and the table's columns.

    Args:
        experiment: Every setting.
        ranks: W.
        scores: Tags of the scalars to compare runs by, and the names to show.

    Returns:
        Summary messages.
    """
    from tensorboard.plugins.hparams import api_pb2, summary_v2

    types = {bool: api_pb2.DATA_TYPE_BOOL, str: api_pb2.DATA_TYPE_STRING}

    class AnyValue(summary_v2.Domain):  # type: ignore[misc,unused-ignore]
        """A type without limits: those of one run would hide the others."""

        def __init__(self, value: Value) -> None:
            self._type = types.get(type(value), api_pb2.DATA_TYPE_FLOAT64)

        dtype = None

        def sample_uniform(self, rng: Any = None) -> Any:
            raise NotImplementedError

        def update_hparam_info(self, info: Any) -> None:
            info.type = self._type

    # Runs of equal settings are one trial, over whose seeds the tab takes the mean.
    values = {name: value for name, value in hyperparameters(experiment, ranks).items() if name != SEED}
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:6]
    # The tab has the columns of whichever run it reads first: those of settings that others have, too.
    settings = flatten({**experiment_settings(experiment), "friends": ""})
    others = [name for name in settings if name not in (*LEFT_OUT, SEED, *values)]
    columns = [summary_v2.HParam(name, AnyValue(values.get(name, ""))) for name in (*values, *others)]
    metrics = [summary_v2.Metric(tag, display_name=name) for tag, name in scores.items()]
    return [
        summary_v2.hparams_config_pb(hparams=columns, metrics=metrics),
        summary_v2.hparams_pb(values, trial_id=f"{experiment.name} {digest}"),
    ]
