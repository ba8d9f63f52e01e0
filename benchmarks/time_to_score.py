"""Seconds and timesteps to a score: ``python benchmarks/time_to_score.py --help``.

The score is the mean of the last 100 training episodes. Peers get our engine and, as far as they have them,
our settings (``--peers sb3 sbx``). (Rows measured earlier may have Stable-Baselines3's times with its zoo's
settings, and those of the first checkpoint with the score in evaluation.)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import jobs as measure
from benchmarks.peers import Library, best_spec, measure_peer
from benchmarks.report import markdown, median, save, script, stamp
from benchmarks.runs import Changes, Run
from ppo_and_friends.errors import UsageError

SCORES = {"CartPole": 475.0, "LunarLander": 200.0, "BipedalWalker": 300.0, "Hopper": 2500.0}
SCORES |= {"HalfCheetah": 4000.0, "Ant": 3000.0, "Humanoid": 5000.0}
EPISODES = 100
Rows = dict[str, dict[str, Any]]
"""By launcher: score, ranks and set of its runs, and its runs: ours, sb3 (earlier, with the zoo's settings),
and those of the peers on our engine."""
ON_ENGINE: dict[str, Library] = {"sb3_envpool": "sb3", "sbx_envpool": "sbx"}
SIDES = ("ours", "sb3", *ON_ENGINE)


@dataclass(frozen=True)
class Options:
    """Measure the time to a score, by the command a user would type."""

    environments: tuple[str, ...] = tuple(SCORES)
    """Launchers."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """A run for each; the median is shown."""
    ranks: int = 2
    """MPI ranks."""
    score: float | None = None
    """Instead of the usual one of each environment."""
    set: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Change a setting."""
    peers: tuple[Library, ...] = ()
    """Libraries to measure as well, on one core."""
    peer_python: Path = Path(".parity/sb3-venv/bin/python")
    """A Python with these libraries and envpool (docs/environments.md says how)."""
    limit: float = 1800.0
    """Seconds after which a run is given up: it never reached the score."""
    output: Path = Path("results/speed/time_to_score.json")
    """Gets each run when it ends, and a table beside it. Runs that it has aren't done again."""


def first_reaching(rows: Sequence[dict[str, str]], score: float) -> dict[str, float] | None:
    """Timesteps, seconds and score of the first row of ``progress.csv`` with the score; None: none has."""
    episodes = 0.0
    for row in rows:
        episodes += float(row.get("episodes") or 0)
        mean = float(row.get("episode_return_mean_100") or "nan")
        if episodes >= EPISODES and mean >= score:
            return {"timesteps": int(row["timesteps"]), "seconds": float(row["seconds"]), "score": mean}
    return None


def run_ours(name: str, seed: int, score: float, options: Options) -> dict[str, Any]:
    """Train until the score is reached. Raises MeasurementError if the training failed."""

    def enough(rows: list[dict[str, str]]) -> bool:
        return first_reaching(rows, score) is not None

    how = {"ranks": options.ranks, "changes": Changes(options.set).arguments(), "limit": options.limit}
    return {"seed": seed, "reached": first_reaching(measure.train(name, enough, seed=seed, **how), score)}


def run_peer(name: str, seed: int, score: float, options: Options, library: Library) -> dict[str, Any]:
    """Train a peer on one core until the score is reached. Raises MeasurementError if it failed."""
    run = Run.of(name, seed, Path(), Changes(options.set))
    spec = best_spec(run, library, score, options.limit)
    curve = measure_peer(options.peer_python, spec, options.limit + 300.0)["curve"]
    first = next((row for row in curve if row[2] >= score), None)
    names = ("timesteps", "seconds", "score")
    return {"seed": seed, "reached": first and dict(zip(names, first, strict=True))}


def median_time(runs: Sequence[dict[str, Any]], which: str = "reached") -> str:
    """``seconds (timesteps)``, the median over the runs, and how many reached it."""
    reached = [run[which] for run in runs if run.get(which)]
    if not reached:
        return f"never (0 of {len(runs)})" if runs else "-"
    seconds, steps = median(reached, "seconds"), median(reached, "timesteps")
    return f"{seconds:,.1f} s ({steps:,.0f} steps; {len(reached)} of {len(runs)})"


def table(rows: Rows) -> str:
    """Markdown."""
    cells = []
    for name, row in rows.items():
        judged = [run for run in row["ours"] if "evaluated" in run]
        times = (median_time(row["ours"]), median_time(judged, "evaluated"), median_time(row["sb3"]))
        peers = (median_time(row.get(side, [])) for side in ON_ENGINE)
        cells.append([name, f"{row['score']:g}", *times, *peers])
    header = ("environment", "score", "ours", "ours, evaluated", "SB3, zoo settings")
    header += ("SB3, our engine and settings", "SBX, our engine and settings")
    return markdown(header, cells) + "\n"


def load_rows(options: Options) -> Rows:
    """The file's rows; those of launchers with another score, ranks or settings than now are emptied."""
    rows: Rows = {}
    if options.output.exists():
        try:
            rows = json.loads(options.output.read_bytes())["rows"]
        except (ValueError, KeyError, TypeError) as error:
            message = f"{options.output} holds no times to a score: remove it, or give --output."
            raise UsageError(message) from error
    for name in options.environments:
        score = options.score if options.score is not None else SCORES.get(name)
        if score is None:
            raise UsageError(f"Which score for {name}? Give --score.")
        terms = {"score": score, "ranks": options.ranks, "set": list(options.set)}
        known = rows.get(name, {})
        kept = all(known.get(key) == value for key, value in terms.items())
        rows[name] = terms | {side: list(known.get(side, ())) if kept else [] for side in SIDES}
    return rows


@script(Options)
def main(options: Options) -> int:
    """Measure in turns, seed by seed; each run is written when it ends. 1 if one failed."""
    rows = load_rows(options)
    sides = ("ours", *(side for side, library in ON_ENGINE.items() if library in options.peers))
    plan = [(seed, name, side) for seed in options.seeds for name in options.environments for side in sides]

    def run(name: str, seed: int, side: str) -> dict[str, Any]:
        score = rows[name]["score"]
        if side == "ours":
            return run_ours(name, seed, score, options)
        return run_peer(name, seed, score, options, ON_ENGINE[side])

    def measured(name: str, side: str) -> None:
        save(options.output, stamp() | {"rows": rows}, table(rows))
        print(f"{name} to {rows[name]['score']:g}, {side}: {median_time(rows[name][side])}", flush=True)

    failed = measure.in_turns(plan, rows, run, measured)
    print(table(rows))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
