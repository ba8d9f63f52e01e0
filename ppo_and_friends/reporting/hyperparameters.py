"""An experiment's settings as a flat table, for trackers that compare runs."""

from __future__ import annotations

from ppo_and_friends.experiment import Experiment
from ppo_and_friends.reporting.curves import flatten
from ppo_and_friends.saved_experiment import experiment_settings

Value = bool | float | str

LEFT_OUT = ("device", "checkpoint_seconds", "keep_checkpoints")
"""Settings that change nothing about what is learned."""


def hyperparameters(experiment: Experiment, ranks: int) -> dict[str, Value]:
    """Settings by dotted name, such as ``ppo.clip``; schedules as ``start:end``, friends as one text."""
    settings = experiment_settings(experiment)
    friends = settings.pop("friends")
    flat = {name: value for name, value in flatten(settings).items() if name not in LEFT_OUT}
    flat["friends"] = ", ".join(
        one["name"] + "".join(f":{name}={value}" for name, value in one["arguments"].items())
        for one in friends
    )
    flat["ranks"] = ranks
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in flat.items()
    }
