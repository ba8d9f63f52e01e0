"""Seconds and timesteps to a score, ours and a peer's: ``python benchmarks/time_to_score.py --help``.

The score is the mean of the last 100 training episodes. With ``--evaluated`` ours is also judged by
evaluations: every checkpoint of the run is evaluated afterwards, on the canonical environment, most
probable actions; the first that has the score counts. Evaluating takes nothing from the training.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measurements as measure
from benchmarks.jobs import last_line
from benchmarks.peer_setup import DEFAULT, peer_python
from benchmarks.runs import ROOT
from benchmarks.time_results import SIDES, TimeResults, median_time, table
from benchmarks.zoo import zoo_spec
from ppo_and_friends.errors import PPOError, UsageError
from ppo_and_friends.reporting.progress_csv import read_rows
from ppo_and_friends.runs.run_folder import RunFolder
from ppo_and_friends.settings.registry import resolve

SCORES = {"CartPole": 475.0, "LunarLander": 200.0, "BipedalWalker": 300.0, "HalfCheetah": 4000.0}
EPISODES = 100
CHECKPOINT_SECONDS = 5
EVALUATION_EPISODES = 20
Texts = tyro.conf.UseAppendAction[tuple[str, ...]]
Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclass(frozen=True)
class Options:
    """Measure the time to a score, by the command a user would type."""

    environments: tuple[str, ...] = tuple(SCORES)
    """Launchers."""

    seeds: tuple[int, ...] = (1, 2, 3)
    """A run for each; the median is shown."""

    ranks: int = 2
    """MPI ranks of our runs."""

    score: float | None = None
    """Instead of the usual one of each environment."""

    set: Annotated[Texts, tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Change a setting of our runs."""

    limit: float = 1800.0
    """Seconds after which a run, ours or a peer's, is given up: it never reached the score."""

    resume: Switch = False
    """Keep the runs that the output file has for the same score, ranks and settings; do the missing ones."""

    evaluated: Switch = False
    """Find the first checkpoint that reaches the score in evaluation too."""

    peers: Switch = False
    """Measure Stable-Baselines3 with the zoo's settings too."""

    peers_dir: Path = DEFAULT
    """Where the peers' virtual environments are, or are made."""

    output: Path = Path("results/speed/time_to_score.json")
    """Where each run goes when it ends; a table goes beside it. Other launchers' runs in it stay."""


def first_reaching(rows: Sequence[dict[str, str]], score: float) -> dict[str, float] | None:
    """The first iteration after which the mean of 100 training episodes is at least ``score``.

    Args:
        rows: Of ``progress.csv``.
        score: What to reach.

    Returns:
        timesteps, seconds (of training) and score; None if it never was.
    """
    episodes = 0.0
    for row in rows:
        episodes += float(row.get("episodes") or 0)
        mean = float(row.get("score_mean_100") or "nan")
        if episodes >= EPISODES and mean >= score:
            return {"timesteps": int(row["timesteps"]), "seconds": float(row["seconds"]), "score": mean}
    return None


def run_ours(name: str, seed: int, score: float, options: Options) -> dict[str, Any]:
    """Train until the score is reached; returns when that was.

    Raises:
        MeasurementError: The training failed.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place) / resolve(name).name)
        launcher = [measure.mpirun(), "-n", str(options.ranks)] if options.ranks > 1 else []
        command = [*launcher, sys.executable, str(ROOT / "main.py"), "-e", name, "--random_seed", str(seed)]
        command += ["--state_path", place, "--no_tensorboard", "-q"]
        often = [f"checkpoint_seconds={CHECKPOINT_SECONDS}", "keep_checkpoints=100000"]
        settings = [*(often if options.evaluated else []), *options.set]
        command += [part for setting in settings for part in ("--set", setting)]

        def enough() -> bool:
            # Evaluations are often better than training: such a run goes on to its end.
            return not options.evaluated and first_reaching(read_rows(folder.progress)[1], score) is not None

        log = Path(place) / "log"
        code = measure.run_limited(command, log, options.limit, measure.plain_variables(), enough=enough)
        if code:
            raise measure.MeasurementError(f"{name} seed {seed} failed: {last_line(log)}")
        rows = read_rows(folder.progress)[1]
        result: dict[str, Any] = {"seed": seed, "reached": first_reaching(rows, score)}
        if options.evaluated:
            result["evaluated"] = _first_evaluated(folder, rows, score)
        return result


def _first_evaluated(folder: RunFolder, rows: list[dict[str, str]], score: float) -> dict[str, float] | None:
    """The first checkpoint whose evaluation has the score, with the training seconds until then."""
    for path in sorted(folder.checkpoints.glob("[0-9]*")):
        (folder.checkpoints / "latest").write_text(f"{path.name}\n")
        steps = int(path.name.split("-")[0])
        recent = [row for row in rows if int(row["timesteps"]) <= steps]
        # Hopeless ones aren't evaluated: training explores, and is worse, but not that much.
        if not recent or float(recent[-1].get("score_mean_100") or "-inf") < _hope(score):
            continue
        mean = evaluate_checkpoint(folder, path)
        if mean >= score:
            return {"timesteps": steps, "seconds": float(recent[-1]["seconds"]), "score": mean}
    return None


def _hope(score: float) -> float:
    """Half way to the score."""
    return score / 2 if score > 0 else 2 * score


def evaluate_checkpoint(folder: RunFolder, checkpoint: Path) -> float:
    """The mean score of one of a run's checkpoints."""
    with tempfile.TemporaryDirectory() as place:
        alone = Path(place)
        (alone / "checkpoints").mkdir()
        (alone / "checkpoints" / checkpoint.name).symlink_to(checkpoint)
        (alone / "experiment.json").symlink_to(folder.experiment)
        script = str(ROOT / "benchmarks" / "evaluate_run.py")
        command = [sys.executable, script, place, str(alone / "out"), str(EVALUATION_EPISODES)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise measure.MeasurementError(f"{checkpoint}: {done.stderr.strip().splitlines()[-1]}")
        return float(json.loads((alone / "out" / "evaluation.json").read_bytes())["mean"])


def run_peer(python: Path, name: str, seed: int, score: float, limit: float) -> dict[str, Any]:
    """The same for Stable-Baselines3 with the zoo's settings, one thread, no processes."""
    spec = zoo_spec(resolve(name)) | {"target": score, "seconds": limit, "seed": seed, "threads": 1}
    return {"seed": seed, "reached": measure.sb3(python, spec, limit=limit + 120)["reached"]}


@measure.ended_by_interrupt()
def main(arguments: list[str] | None = None) -> int:
    """Measure and report; 0, 1 if something failed, 2 for a mistake."""
    options = tyro.cli(Options, args=arguments, prog="benchmarks/time_to_score.py")
    failed = False
    try:
        asked = terms(options)
        python = peer_python("sb3", options.peers_dir) if options.peers else None
        results = TimeResults(options.output, asked, resume=options.resume)
        sides = SIDES if python is not None else SIDES[:1]
        for seed, name, side in results.missing(options.seeds, asked, sides):
            row = results.rows[name]
            try:
                if side == "ours" or python is None:
                    run = run_ours(name, seed, row["score"], options)
                else:
                    run = run_peer(python, name, seed, row["score"], options.limit)
                results.add(name, side, run)
            except measure.MeasurementError as error:
                failed = True
                print(error, file=sys.stderr)
            ours, peer = median_time(row["ours"]), median_time(row["sb3"])
            print(f"seed {seed}, {name} to {row['score']:g}: {ours} | SB3 {peer}", flush=True)
    except PPOError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    print(table(results.rows))
    return int(failed)


def terms(options: Options) -> dict[str, dict[str, Any]]:
    """What each launcher is measured for.

    Raises:
        UsageError: A score is missing.
    """
    found = {}
    for name in options.environments:
        score = options.score if options.score is not None else SCORES.get(name)
        if score is None:
            raise UsageError(f"Which score for {name}? Give --score.")
        found[name] = {"score": score, "ranks": options.ranks, "set": list(options.set)}
    return found


if __name__ == "__main__":
    sys.exit(main())
