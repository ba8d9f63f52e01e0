"""Training steps a second by MPI ranks, and where the time goes: ``python benchmarks/speed.py --help``.

Everything is measured in turns, a whole round before the next, since machines are noisy; what is shown is the
median of the rounds. With ``--peer_python``, Stable-Baselines3 and SBX do the same work on the same engine
and one core, beside ours: HalfCheetah with small and with large minibatches.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import jobs as measure
from benchmarks.parity import plain_changes
from benchmarks.peers import measure_peer, same_spec
from benchmarks.report import MeasurementError, markdown, median, origin, save, script, stamp
from benchmarks.runs import Changes, Run
from ppo_and_friends.distributed.cores import usable_cores
from ppo_and_friends.ppo.stopwatch import TIMED
from ppo_and_friends.reporting.progress_csv import Row
from ppo_and_friends.settings.registry import resolve

ENVIRONMENTS = ("CartPole", "BipedalWalker", "Hopper", "HalfCheetah", "Ant", "Humanoid", "BreakoutPixels")
PARTS = (*TIMED, "rest")
SINGLE = "ours, 1 rank on 1 core"
EQUAL_WORK = {
    "8 x 512, minibatches of 64, 10 epochs": (8, 4096, 64, 10),
    "64 x 128, minibatches of 1,024, 5 epochs": (64, 8192, 1024, 5),
}
"""HalfCheetah, 64-64 tanh: environments, timesteps of a rollout, minibatch size, epochs."""
EQUAL_SIDES = {"ours": "ours", "sbx": "SBX", "sb3": "Stable-Baselines3"}
WARM_UP = 3  # iterations that aren't counted: threads start, buffers are touched for the first time
Results = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """Measure training steps a second, and where the time goes."""

    environments: tuple[str, ...] = ENVIRONMENTS
    """Launchers; none: the peers alone."""
    ranks: tuple[int, ...] = (1, 2)
    """MPI ranks to measure with; 1 is measured on a single core too."""
    seconds: float = 20.0
    """Of training in each measurement."""
    rounds: int = 3
    """The median of so many is shown."""
    shards: int = 0
    """Also measure the highest number of ranks with this many deterministic shards; 0: don't."""
    peer_python: Path | None = None
    """A Python with stable-baselines3, sbx-rl and envpool (docs/environments.md says how): adds the peers."""
    output: Path = Path("results/speed")
    """Where speed.json and speed.md go."""


def counted(rows: list[Row]) -> list[dict[str, float]]:
    """The numbers of ``progress.csv`` from the last iteration of the warm-up on."""
    names = ("timesteps", "seconds", *(f"time_{name}" for name in TIMED))
    return [{name: float(row.get(name) or 0.0) for name in names} for row in rows[WARM_UP - 1 :]]


def rate_and_split(rows: list[dict[str, float]]) -> Results:
    """Steps a second, reports included, and shares of the time."""
    first, last = rows[0], rows[-1]
    took = last["seconds"] - first["seconds"]
    split = {part: sum(row[f"time_{part}"] for row in rows[1:]) / took for part in TIMED}
    rate = (last["timesteps"] - first["timesteps"]) / took
    return {"steps_per_second": rate, "split": split | {"rest": 1.0 - sum(split.values())}}


def ours(
    name: str, ranks: int, seconds: float, *, one_core: bool = False, changes: Iterable[str] = ()
) -> Results:
    """Train for a while. Raises MeasurementError if it failed, or did too few iterations."""

    def enough(rows: list[Row]) -> bool:
        known = counted(rows)
        return len(known) > WARM_UP and known[-1]["seconds"] - known[0]["seconds"] >= seconds

    rows = counted(measure.train(name, enough, ranks=ranks, one_core=one_core, changes=changes))
    if len(rows) < 2:
        raise MeasurementError(f"{name} on {ranks} ranks failed: fewer than {WARM_UP + 1} iterations")
    return rate_and_split(rows)


def equal_work(options: Options, python: Path) -> Results:
    """Rates by sizes and library; all in turns."""
    rates: Results = {sizes: {side: [] for side in EQUAL_SIDES} for sizes in EQUAL_WORK}
    turns = [(sizes, side) for sizes, sides in rates.items() for side in sides]
    for sizes, side in turns * options.rounds:
        envs, timesteps, minibatch, epochs = EQUAL_WORK[sizes]
        sized = (f"environment.num_envs={envs}", f"ppo.rollout_timesteps={timesteps}")
        sized += (f"ppo.minibatch_size={minibatch}", f"ppo.epochs={epochs}")
        plain = plain_changes("HalfCheetah", 10**9)
        changes = Changes((*plain.set, *sized), plain.with_, plain.without)
        if side == "ours":
            found = ours("HalfCheetah", 1, options.seconds, one_core=True, changes=changes.arguments())
        else:
            spec = same_spec(Run.of("HalfCheetah", 1, Path(), changes))
            spec |= {"library": side, "engine": "envpool", "limit": options.seconds + 10.0}
            found = measure_peer(python, spec)
        rates[sizes][side].append({"steps_per_second": found["steps_per_second"]})
        print(f"{sizes}, {side}: {found['steps_per_second']:,.0f} steps/s", flush=True)
    return rates


def measure_all(options: Options) -> Results:
    """All rounds; a measurement that fails is recorded as such and tried again in the next round."""
    columns: dict[str, tuple[int, bool, tuple[str, ...]]]
    columns = {SINGLE: (1, True, ())} if 1 in options.ranks else {}
    for ranks in options.ranks:
        if ranks != 1 or usable_cores() > 1:
            columns[f"ours, {ranks} rank{'s' * (ranks > 1)}"] = (ranks, False, ())
    if options.shards:
        changed = ("--set", f"deterministic_shards={options.shards}")
        columns[f"{list(columns)[-1]}, {options.shards} shards"] = (max(options.ranks), False, changed)
    names = [resolve(name).name for name in options.environments]
    rows: dict[str, Any] = {name: {column: [] for column in columns} for name in names}
    results = stamp() | {"seconds": options.seconds, "rounds": options.rounds, "failures": [], "rows": rows}
    for name, column in [(name, column) for name in names for column in columns] * options.rounds:
        ranks, one_core, changes = columns[column]
        try:
            rows[name][column].append(ours(name, ranks, options.seconds, one_core=one_core, changes=changes))
            said = f"{rows[name][column][-1]['steps_per_second']:,.0f} steps/s"
        except MeasurementError as error:
            said = str(error)
            results["failures"].append(f"{name}, {column}: {said}")
        print(f"{name}, {column}: {said}", flush=True)
    if options.peer_python is not None:
        results["equal_work"] = equal_work(options, options.peer_python)
    return results


def rates_of(row: Results, columns: Iterable[str]) -> list[str]:
    """Median steps a second of each column."""
    rates = [median(row.get(column, []), "steps_per_second") for column in columns]
    return ["-" if rate is None else f"{rate:,.0f}" for rate in rates]


def rates_table(results: Results) -> str:
    """Median steps a second by launcher and column, and of the last column in terms of the first."""
    columns = list(dict.fromkeys(column for row in results["rows"].values() for column in row))
    rows = []
    for name, row in results["rows"].items():
        first, last = (median(row.get(columns[end], []), "steps_per_second") for end in (0, -1))
        rows.append([name, *rates_of(row, columns), f"{last / first:.2f}" if first and last else "-"])
    return markdown(["steps a second", *columns, "last / first"], rows)


def split_table(results: Results) -> str:
    """Where the time goes, for each launcher and column."""
    rows = []
    for name, row in results["rows"].items():
        for column, measured in row.items():
            known = [one["split"] for one in measured if "split" in one]
            shares = [f"{100 * (median(known, part) or 0.0):.0f}%" for part in PARTS]
            rows += [[name, column, *shares]] if known else []
    return markdown(("launcher", "run", *PARTS), rows, text=(0, 1))


def write_speed(results: Results, folder: Path) -> str:
    """Write ``speed.json`` and ``speed.md``; returns the Markdown."""
    how = f"median of {results['rounds']} rounds of {results['seconds']:g} s each."
    parts = ["# Speed", f"{origin(results)}; {how}"]
    if results["rows"]:
        parts += [rates_table(results), "Shares of the time:", split_table(results)]
    if "equal_work" in results:
        rows = [[sizes, *rates_of(row, EQUAL_SIDES)] for sizes, row in results["equal_work"].items()]
        header = ("HalfCheetah, 64-64, one core, same engine", *EQUAL_SIDES.values())
        parts += ["Equal work, steps a second:", markdown(header, rows)]
    parts += [f"Failed: {failure}" for failure in results["failures"]]
    text = "\n\n".join(parts) + "\n"
    save(folder / "speed.json", results, text)
    return text


@script(Options)
def main(options: Options) -> int:
    """Measure and report; 1 if something failed."""
    results = measure_all(options)
    print(write_speed(results, options.output))
    return int(bool(results["failures"]))


if __name__ == "__main__":
    sys.exit(main())
