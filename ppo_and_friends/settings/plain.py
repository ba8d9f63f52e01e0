"""An experiment as plain JSON data."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.migration import migrated


@lru_cache(maxsize=1)
def experiment_adapter() -> TypeAdapter[Experiment]:
    """What validates and writes experiments; made once."""
    return TypeAdapter(Experiment)


def _describe(value: Any) -> str:
    """An object JSON can't hold, by its name: its ``repr`` may have an address that changes."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"<{named.__module__}.{named.__qualname__}>"


def experiment_settings(experiment: Experiment) -> dict[str, Any]:
    """Every setting as plain JSON data; an object that JSON can't hold as its name.

    Two experiments have equal settings exactly if these are equal, apart from such objects.
    """
    settings = experiment_adapter().dump_python(experiment, mode="json", fallback=_describe)
    return cast("dict[str, Any]", json.loads(json.dumps(settings)))


def completed_settings(settings: dict[str, Any], format: int = 1) -> dict[str, Any]:
    """Settings as they were saved, by this version or an earlier one, with today's names and every setting.

    Settings that this version can't read come back with today's names alone.

    Args:
        settings: As ``experiment.json`` has them under ``experiment``.
        format: The record's format; 1 if it says nothing.
    """
    new = migrated(settings, format)
    try:
        return experiment_settings(experiment_adapter().validate_json(json.dumps(new)))
    except ValidationError:
        return new


def is_plain(experiment: Experiment) -> bool:
    """Whether ``experiment.json`` alone is enough to have the experiment again."""
    if experiment.environment.factory is not None or any(spec.kind for spec in experiment.friends):
        return False
    try:
        experiment_adapter().dump_json(experiment)
    except ValueError:  # pydantic's serialization error among them
        return False
    return True
