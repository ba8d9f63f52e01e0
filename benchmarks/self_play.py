"""Win rates of a policy trained by self-play: ``python benchmarks/self_play.py --help``.

It plays a random player, then its own versions of the run, each agent in turn. Against the random player it
takes the most probable actions; against its own versions both sample: otherwise all games would be alike.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.jobs import run_alone
from benchmarks.report import ROOT, MeasurementError, markdown, origin, save, script, stamp
from ppo_and_friends import evaluate, load_policy
from ppo_and_friends.evaluation.evaluate import Evaluation
from ppo_and_friends.evaluation.opponents import WON
from ppo_and_friends.reporting.run_record import load_run

KEPT = "keep_checkpoints=1000"
"""So that versions of the whole run are there to play against."""

LEAST = {"random": 0.95, "half": 0.70}
"""Win rates to be reached: against the random player, and the version of the middle of the run."""

HEADER = ("opponent", "games", "won", "drawn", "lost", "win rate", "mean length")


@dataclass(frozen=True)
class Options:
    """Train a launcher by self-play, and measure win rates."""

    environment: str = "ConnectFour"
    """A launcher whose agents share a policy and play against each other."""
    run: Path | None = None
    """A run's folder, trained with keep_checkpoints=1000; None: it is trained."""
    seed: int = 1
    """Of the training."""
    games: int = 200
    """Against each opponent."""
    set: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Change a setting of the training."""
    work: Path = Path(".learning/self_play")
    """Where it is trained; running it again resumes."""
    output: Path = Path("results/self_play/ConnectFour.json")
    """Gets the win rates, with a table and the curve beside it."""


def trained(options: Options) -> Path:
    """The run's folder. Raises MeasurementError if the training fails."""
    if options.run is not None:
        return options.run
    name = f"seed-{options.seed}"
    command = [sys.executable, str(ROOT / "main.py"), "-e", options.environment, "--no_tensorboard", "-q"]
    command += ["--state_path", str(options.work), "--run_name", name, "--random_seed", str(options.seed)]
    for setting in (KEPT, *options.set):
        command += ["--set", setting]
    options.work.mkdir(parents=True, exist_ok=True)
    run_alone(options.environment, command, options.work / f"{name}.log")
    return options.work / f"{options.environment}-{name}"


def version(run: Path, timesteps: float) -> Path:
    """The checkpoint that is nearest to a number of timesteps."""
    kept = [path for path in (run / "checkpoints").iterdir() if path.name.isdigit()]
    return min(kept, key=lambda path: abs(int(path.name) - timesteps))


def result(opponent: str, evaluation: Evaluation) -> dict[str, Any]:
    """A row of the table."""
    won = np.array([episode.info[WON] for episode in evaluation.episodes])
    return {
        "opponent": opponent,
        "games": len(won),
        "won": int((won == 1.0).sum()),
        "drawn": int((won == 0.5).sum()),
        "lost": int((won == 0.0).sum()),
        "win_rate": float(won.mean()),
        "mean_length": float(evaluation.lengths.mean()),
    }


@script(Options)
def main(options: Options) -> int:
    """Train, play, write; 1 if a win rate is too low."""
    about = stamp()
    run = trained(options)
    policy = load_policy(run)
    rows: dict[str, dict[str, Any]] = {}

    def play(name: str, opponent: Any, label: str, *, deterministic: bool) -> None:
        found = evaluate(policy, options.games, opponent=opponent, deterministic=deterministic, seed=1000)
        rows[name] = result(label, found)
        print(f"{label}: won {rows[name]['won']} of {options.games}", flush=True)

    against: Literal["random"] = "random"
    play("random", against, "random player", deterministic=True)
    for name, share in (("quarter", 0.25), ("half", 0.5), ("three quarters", 0.75)):
        place = version(run, share * policy.timesteps)
        play(name, load_policy(place), f"itself at {int(place.name):,} timesteps", deterministic=False)
    seconds = float(load_run(run).columns["seconds"][-1])
    cells = [
        [
            row["opponent"],
            *(f"{row[key]}" for key in ("games", "won", "drawn", "lost")),
            f"{row['win_rate']:.1%}",
            f"{row['mean_length']:.1f}",
        ]
        for row in rows.values()
    ]
    trained_for = f"{policy.timesteps:,} timesteps in {seconds / 60:.0f} minutes of a shared core"
    text = f"{origin(about)}. {options.environment}, {trained_for}.\n\n{markdown(HEADER, cells)}\n"
    more = {"environment": options.environment, "seed": policy.experiment.random_seed}
    more |= {"timesteps": policy.timesteps, "training_seconds": seconds}
    save(options.output, about | more | {"rows": rows}, text)
    shutil.copyfile(run / "progress.csv", options.output.with_name(f"{options.output.stem}.csv"))
    low = [f"{rows[name]['opponent']}: {rows[name]['win_rate']:.1%}" for name in LEAST if missed(rows, name)]
    if low:
        raise MeasurementError(f"Below the target: {'; '.join(low)}")
    return 0


def missed(rows: dict[str, dict[str, Any]], name: str) -> bool:
    """Whether a win rate isn't what it should be."""
    return bool(rows[name]["win_rate"] < LEAST[name])


if __name__ == "__main__":
    sys.exit(main())
