"""What all benchmarks share: the command line's errors, the record of a measurement, tables and figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tyro

from ppo_and_friends.cli.output import patient_output
from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.common.versions import library_versions
from ppo_and_friends.distributed.cores import usable_cores
from ppo_and_friends.errors import PPOError, UsageError

ROOT = Path(__file__).resolve().parent.parent
Chosen = TypeVar("Chosen")


class MeasurementError(PPOError):
    """A measurement failed; says which, and its last line of output."""


def command_line(
    options: type[Chosen], program: str, body: Callable[[Chosen], int], given: list[str] | None = None
) -> int:
    """Parse the command line (None: the process's) and run ``body``, which returns the exit status.

    Otherwise it is 1 if a measurement failed, 2 for a user's mistake, 130 if interrupted.
    """
    try:
        with patient_output():  # `| head` ends nothing
            return body(tyro.cli(options, args=given, prog=f"benchmarks/{program}"))
    except PPOError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def script(options: type[Chosen]) -> Callable[[Callable[[Chosen], int]], Callable[..., int]]:
    """Makes the ``main`` of a script of what it does with the options, which returns the exit status."""
    return lambda body: partial(command_line, options, Path(body.__code__.co_filename).name, body)


def source_state() -> dict[str, Any]:
    """The commit, and whether files that Python runs differ from it; without git, None and False."""

    def git(*arguments: str) -> str:
        try:
            return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout
        except OSError:
            return ""

    changed = git("status", "--porcelain", "--", "ppo_and_friends", "environments", "main.py")
    return {"commit": git("rev-parse", "HEAD").strip() or None, "dirty": bool(changed.strip())}


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def stamp() -> dict[str, Any]:
    """When and on what something is measured; to be taken before the measurement."""
    machine = {"cores": usable_cores(), "load": os.getloadavg()[0]}
    return {"measured_at": now(), **machine, "source": source_state(), "versions": library_versions()}


def origin(results: dict[str, Any]) -> str:
    """What `stamp` recorded, as the beginning of a sentence."""
    source = results["source"]
    commit = (source["commit"] or "unknown")[:12] + (" (changed since)" if source.get("dirty") else "")
    return f"Measured at {results['measured_at']} on {results['cores']} cores, commit {commit}"


def write_json(path: Path, record: Any, indent: int | None = 1) -> None:
    """Write a record, in one piece."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, (json.dumps(record, indent=indent) + "\n").encode())


def save(path: Path, results: Any, text: str, *, indent: int | None = 1) -> None:
    """Write ``results`` to ``path`` (JSON) and ``text`` (Markdown) beside it."""
    try:
        write_json(path, results, indent)
        replace_file(path.with_suffix(".md"), text.encode())
    except OSError as error:
        raise UsageError(
            f"{path.parent} can't be written: {error.strerror}. Give another --output folder; "
            "what is trained is kept."
        ) from error


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[int] = (0,)) -> str:
    """A Markdown table; the columns ``text`` hold words and are left-aligned, numbers are right-aligned."""
    words = {index % len(header) for index in text}
    rule = "|" + "".join("---|" if index in words else "---:|" for index in range(len(header)))
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, *rows)]
    return "\n".join([lines[0], rule, *lines[1:]])


def number(value: float | None, like: float | None = None) -> str:
    """A score for people: no decimals where they say nothing, in a difference those of the score ``like``."""
    if value is None:
        return "-"
    size = abs(value if like is None else like)
    return f"{value:,.{0 if size >= 1000 else 1 if size >= 10 else 2}f}"


def count(value: float) -> str:
    """Timesteps: 60k, 1.5M."""
    if value >= 1e6:
        return f"{value / 1e6:.3g}M"
    return f"{value / 1e3:.3g}k" if value >= 1e3 else f"{value:.0f}"


def median(results: Sequence[dict[str, Any]], key: str) -> float | None:
    """Median of a measured number; None where nothing was measured."""
    known = [result[key] for result in results if result.get(key) is not None]
    return float(np.median(known)) if known else None
