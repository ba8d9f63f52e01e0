"""A run's settings on disk: ``experiment.json``, and ``experiment.dill`` if JSON can't represent them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dill
from pydantic import ValidationError

from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.common.plain_json import read_json
from ppo_and_friends.common.versions import library_versions
from ppo_and_friends.errors import CheckpointError, UsageError
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.migration import FORMAT, migrated
from ppo_and_friends.settings.overrides import validated
from ppo_and_friends.settings.plain import experiment_adapter, experiment_settings, is_plain

FORMER_MODULES = {
    "ppo_and_friends.experiment": "ppo_and_friends.settings.experiment",
    "ppo_and_friends.schedules": "ppo_and_friends.settings.schedules",
}
"""Where classes that stand in saved experiments were in format 1."""

JSON_NAME, DILL_NAME = "experiment.json", "experiment.dill"

CHECKSUM, CODE_CHECKSUM = "sha256", "dill_sha256"
"""Of the record itself, and of the saved code; records of earlier versions have none."""


def save_experiment(
    folder: Path,
    experiment: Experiment,
    command_line: Sequence[str],
    ranks: int = 1,
    *,
    timesteps: int = 0,
    changes: Mapping[str, tuple[Any, Any]] | None = None,
) -> None:
    """Write ``experiment.json``, and also ``experiment.dill`` if JSON can't represent the experiment.

    Its ``history`` has an entry for each time that the run was started or resumed, with the timesteps at
    which that was. For rank 0 only.

    Args:
        folder: The run's folder, which must exist.
        experiment: The run's settings.
        command_line: ``sys.argv``; recorded for information only.
        ranks: W, the number of ranks; recorded for information only.
        timesteps: Where training begins or goes on; 0 for a new run, whose history begins anew.
        changes: Settings that were changed since, by flat name, with the old and the new value.

    Raises:
        CheckpointError: A file can't be written, or dill can't pickle an object of the experiment.
    """
    plain = is_plain(experiment)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    session = {
        "timesteps": timesteps,
        "started_at": now,
        "ranks": ranks,
        "command_line": list(command_line),
        "changes": {name: list(values) for name, values in (changes or {}).items()},
    }
    record = {
        "format": FORMAT,
        "experiment": experiment_settings(experiment),
        "plain": plain,
        "command_line": list(command_line),
        "ranks": ranks,
        "versions": library_versions(),
        "saved_at": now,
        "history": [*_history_before(folder, timesteps), session],
    }
    try:
        if plain:
            (folder / DILL_NAME).unlink(missing_ok=True)
        else:
            code = dill.dumps(experiment, recurse=True)
            record[CODE_CHECKSUM] = hashlib.sha256(code).hexdigest()
            replace_file(folder / DILL_NAME, code)
        replace_file(folder / JSON_NAME, json.dumps(sealed(record), indent=2).encode())
    except OSError as error:
        raise CheckpointError(
            f"The settings can't be written to {folder}: {error.strerror or error}."
        ) from error
    except Exception as error:  # dill raises whatever the objects' own methods raise
        raise CheckpointError(
            f"The experiment {experiment.name} can't be saved: {type(error).__name__}: {error}.\n"
            "Name its factory and friends as `module:name` instead of passing objects."
        ) from error


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of ``experiment.json`` with the checksum of what it says now."""
    return {**record, CHECKSUM: _checksum(record)}


def _checksum(record: Mapping[str, Any]) -> str:
    """The checksum of a record without its own."""
    rest = {name: value for name, value in record.items() if name != CHECKSUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _history_before(folder: Path, timesteps: int) -> list[Any]:
    """The sessions in a folder's history of which something is left at ``timesteps``.

    Of a record without a history it is what is known of its only session. A session that was begun at those
    timesteps, or after them, ended before it had saved anything.
    """
    try:
        record = read_json(folder / JSON_NAME)
        if "history" in record:
            return [session for session in record["history"] if session["timesteps"] < timesteps]
        if not timesteps:
            return []
        command_line, ranks = record["command_line"], record.get("ranks", 1)
        session = {"timesteps": 0, "started_at": record.get("saved_at", ""), "ranks": ranks}
        return [session | {"command_line": command_line, "changes": {}}]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def saved_settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a record as ``experiment.json`` holds it, in today's format.

    Raises:
        ValueError: It is no such record.
    """
    if CHECKSUM in record and record[CHECKSUM] != _checksum(record):
        raise ValueError(
            f"it doesn't match its checksum (if you changed it yourself, remove its {CHECKSUM!r})"
        )
    settings, format = record.get("experiment"), record.get("format", 1)
    if not isinstance(settings, dict):
        raise ValueError("it has no experiment")
    if not isinstance(format, int):
        raise ValueError("format is not a number")
    try:
        return migrated(settings, format)
    except Exception as error:  # values that no version has written, in settings of an earlier format
        raise ValueError(f"its settings are not those of format {format}: {error!r}") from error


def load_experiment(folder: Path, trust: bool = False) -> Experiment:
    """Load the experiment saved in a run's folder.

    Args:
        folder: The run's folder.
        trust: Whether code stored in the folder may be executed; required if the experiment isn't plain
            data.

    Raises:
        UsageError: There is no experiment, it is damaged, it requires ``trust``, or it is not compatible
            with this version.
    """
    path = folder / JSON_NAME
    try:
        record = read_json(path)
        settings = saved_settings(record)
        if not isinstance(plain := record.get("plain"), bool):
            raise ValueError("plain is not true or false")
    except FileNotFoundError:
        raise UsageError(f"No experiment is saved in {folder}.") from None
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise UsageError(f"{path} is damaged: {error}. Use --clobber to start over.") from error
    if plain:
        if not trust:
            _refuse_own_code(folder, settings)
        try:
            return experiment_adapter().validate_json(json.dumps(settings))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UsageError(
                f"{path} is not compatible with this version: {where}: {first['msg']}.\n"
                "Use --clobber to start over."
            ) from error
    if not trust:
        raise UsageError(
            f"The experiment in {folder} contains Python objects, which are saved as code ({DILL_NAME}).\n"
            "Use --trust to load it. This executes the code, so do so only if you trust the file's origin."
        )
    try:
        code = (folder / DILL_NAME).read_bytes()
        if record.get(CODE_CHECKSUM, digest := hashlib.sha256(code).hexdigest()) != digest:
            raise ValueError("it doesn't match its checksum")
        experiment = _Unpickler(io.BytesIO(code)).load()
    except Exception as error:  # whatever the stored code raises
        raise UsageError(f"{folder / DILL_NAME} can't be loaded: {type(error).__name__}: {error}.") from error
    if not isinstance(experiment, Experiment):
        raise UsageError(f"{folder / DILL_NAME} contains a {type(experiment).__name__}, not an Experiment.")
    if record.get("format", 1) >= FORMAT:
        return experiment
    # An object of an earlier format has the attributes of that format.
    return validated(migrated(_attributes(experiment)))


def _refuse_own_code(folder: Path, settings: Any) -> None:
    """Refuse settings that name Python files in the run's own folder: they came with it.

    Raises:
        UsageError: Names the file.
    """
    if isinstance(settings, str):
        path, found, _ = settings.partition(".py:")
        if found and Path(f"{path}.py").resolve().is_relative_to(folder.resolve()):
            raise UsageError(
                f"The experiment in {folder} names code that lies in its own folder: {settings}.\n"
                "Use --trust to load it. This executes the code, so do so only if you trust its origin."
            )
    elif isinstance(settings, dict | list | tuple):
        for each in settings.values() if isinstance(settings, dict) else settings:
            _refuse_own_code(folder, each)


class _Unpickler(dill.Unpickler):
    """Maps modules of earlier versions to the current ones, so that classes of settings are found."""

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(FORMER_MODULES.get(module, module), name)


def _attributes(value: Any) -> Any:
    """Return nested settings as nested dicts of their attributes, whichever these are."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _attributes(each) for name, each in vars(value).items() if not name.startswith("__")}
    if isinstance(value, tuple):
        return tuple(_attributes(each) for each in value)
    return value
