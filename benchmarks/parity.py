"""Our learning curves beside Stable-Baselines3's, same settings, same environments.

``python benchmarks/parity.py --help``. Both sides get the plain algorithm as Stable-Baselines3 has it:
advantages normalised in each minibatch, the same networks, schedules and normalisation. Then the curves
should agree within their spread over seeds; where they don't, one of the two has a defect.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measurements as measure
from benchmarks.curve_comparison import Curve, report, save
from benchmarks.jobs import Job, begin_log
from benchmarks.peer_setup import DEFAULT, peer_python
from benchmarks.runs import Changes, Run
from benchmarks.training import run_all, training, training_curve
from benchmarks.zoo import same_spec
from ppo_and_friends.errors import PPOError, UsageError
from ppo_and_friends.settings.registry import resolve

ENVIRONMENTS = ("CartPole", "LunarLander", "HalfCheetah", "BipedalWalker")
NORMALISED = ("HalfCheetah", "BipedalWalker")
"""Those that learn from normalised observations and rewards."""

COMMON = (
    "ppo.epochs=10",
    "ppo.learning_rate=3e-4",
    "ppo.clip_range=0.2",
    "ppo.gamma=0.99",
    "ppo.gae_lambda=0.95",
    "ppo.entropy_coefficient=0.0",
    "ppo.value_coefficient=0.5",
    "ppo.max_grad_norm=0.5",
    "ppo.adam_epsilon=1e-5",
    "network.actor_hidden=64,64",
    "network.critic_hidden=64,64",
    "network.activation=tanh",
    "network.log_std_init=0.0",
    "environment.num_envs=8",
    "ppo.rollout_timesteps=4096",
    "ppo.minibatch_size=128",
)
BUDGETS = {"CartPole": 100_000, "LunarLander": 400_000, "HalfCheetah": 500_000, "BipedalWalker": 500_000}


@dataclass(frozen=True)
class Options:
    """Compare learning curves with Stable-Baselines3's at the same settings."""

    environments: tuple[str, ...] = ENVIRONMENTS
    """Launchers."""

    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """A run for each, on each side."""

    timesteps: int | None = None
    """Of each run (default: enough to see it learn); other ones need a --work and --output of their own."""

    jobs: int | None = None
    """Runs at once (default: the cores)."""

    work: Path = Path(".parity")
    """Where runs are kept; what is finished there isn't done again. Remove it to start over."""

    peers_dir: Path = DEFAULT
    """Where the peers' virtual environments are, or are made."""

    output: Path = Path("results/parity")
    """Where parity.json, parity.md and parity.png go."""

    report_only: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write the report again from parity.json."""


def plain_changes(name: str, timesteps: int) -> Changes:
    """The changes that make a launcher the plain algorithm.

    Args:
        name: The launcher's.
        timesteps: Of the run.
    """
    friends = [f"AdvantageNormalizer:per_minibatch={json.dumps(True)}"]
    if name in NORMALISED:
        # As VecNormalize does: clipped at 10 standard deviations.
        friends = ["ObservationNormalizer", "ObservationClip:limit=10", "RewardNormalizer", *friends]
        friends.insert(3, "RewardClip:low=-10,high=10")
    without = tuple(spec.name for spec in resolve(name).friends)
    return Changes((f"num_timesteps={timesteps}", *COMMON), tuple(friends), without)


def theirs(python: Path, run: Run, place: Path) -> Job | None:
    """What trains Stable-Baselines3 at the same settings; None: it is trained.

    Args:
        python: Of its virtual environment.
        run: Ours.
        place: Its folder.
    """
    asked, answer = specification(run, place), their_result(run, place)
    spec = json.dumps(same_spec(run.experiment) | {"seed": run.seed, "threads": 1})
    if asked.exists() and asked.read_text() == spec and answer.exists():
        return None
    log = asked.with_suffix(".log")
    begin_log(log)
    answer.unlink(missing_ok=True)
    asked.write_text(spec)
    script = measure.HERE / "peer_sb3.py"
    command = tuple(str(part.absolute()) for part in (python, script, asked, answer))
    return Job(f"SB3, {run.name}", [command], log.absolute())


def specification(run: Run, place: Path) -> Path:
    """What Stable-Baselines3 was asked for."""
    return place / f"{run.experiment.name}-{run.seed}.spec.json"


def their_result(run: Run, place: Path) -> Path:
    """What it answered."""
    return place / f"{run.experiment.name}-{run.seed}.result.json"


def their_curve(run: Run, place: Path) -> Curve:
    """The same for Stable-Baselines3."""
    rows = json.loads(their_result(run, place).read_bytes())["curve"]
    return [[row[0], row[2]] for row in rows]


def asked_runs(options: Options) -> list[Run]:
    """Our side of what is to be compared.

    Raises:
        UsageError: There is no such launcher, or no budget for it; or other runs would be overwritten.
    """
    if options.timesteps and {options.work, options.output} & {Options.work, Options.output}:
        raise UsageError("Other timesteps go elsewhere: give --work and --output folders of their own.")
    runs: list[Run] = []
    for seed in options.seeds:
        for name in options.environments:
            known = resolve(name).name
            budget = options.timesteps or BUDGETS.get(known)
            if budget is None:
                raise UsageError(f"{known} has no usual budget here: give --timesteps.")
            runs.append(Run.of(known, seed, options.work / "ours", plain_changes(known, budget)))
    return runs


def train_all(runs: list[Run], options: Options) -> dict[str, dict[str, list[Curve]]]:
    """Train what isn't yet; all curves.

    Raises:
        MeasurementError: A run failed.
        KeyboardInterrupt: It was interrupted; the next time goes on with what isn't finished.
    """
    python = peer_python("sb3", options.peers_dir)
    place = options.work / "sb3"
    pairs = [job for run in runs for job in (theirs(python, run, place), training(run, "ours"))]
    jobs = [job for job in pairs if job is not None]
    if len(jobs) < len(pairs):
        print(f"{len(pairs) - len(jobs)} of {len(pairs)} runs were done before, in {options.work}")
    run_all(jobs, options.jobs)
    return {
        name: {
            "ours": [training_curve(run) for run in runs if run.environment == name],
            "theirs": [their_curve(run, place) for run in runs if run.environment == name],
        }
        for name in dict.fromkeys(run.environment for run in runs)
    }


@measure.ended_by_interrupt()
def main(arguments: list[str] | None = None) -> int:
    """Train both sides and compare; 0, 1 if something failed, 2 for a mistake."""
    options = tyro.cli(Options, args=arguments, prog="benchmarks/parity.py")
    record = options.output / "parity.json"
    try:
        if options.report_only:
            if not record.exists():
                raise UsageError(f"{record} is missing: there is nothing to report yet.")
            print(report(json.loads(record.read_bytes())["curves"], options.output))
            return 0
        runs = asked_runs(options)
        curves = train_all(runs, options)
        # What was trained before may be of another commit than this one.
        commits = {str(one["commit"]) for run in runs for one in run.sessions()}
        about = {"commits": sorted(commits), "settings": COMMON}
        print(save(curves, about, options.output))
    except PPOError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
