"""Trains launchers from several seeds, evaluates them, and reports: ``python benchmarks/learning.py --help``.

Every run is the command a user would type, on a core of its own. Killed, it goes on where it was when
the same command is given again; what is finished isn't done twice as long as its settings are the same.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.jobs import Job, Pool, last_line
from benchmarks.learning_report import write_report
from benchmarks.learning_results import ship_best
from benchmarks.report import ROOT, now, script, source_state, write_json
from benchmarks.runs import Changes, Run, policy_digest, read_record
from benchmarks.targets import TARGETS, Target
from ppo_and_friends.distributed.cores import usable_cores
from ppo_and_friends.errors import UsageError

Texts = tyro.conf.UseAppendAction[tuple[str, ...]]
Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]


DOCUMENTED = ("environments", "memory", "action_masks", "several_agents")
"""Pages of the documentation that have blocks of results."""


@dataclass(frozen=True)
class Options:
    """Train launchers over seeds, evaluate them on the canonical environments, and write a report."""

    environments: tuple[str, ...] = ()
    """Launchers to train; none: every one that has a target."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """A run for each."""
    jobs: int | None = None
    """Runs at once (default: the cores)."""
    episodes: int | None = None
    """Evaluation episodes (default: the target's, mostly 100)."""
    work: Path = Path(".learning")
    """Where runs and their checkpoints are kept."""
    results: Path = Path("results")
    """Where curves, evaluations and the report go."""
    set: Annotated[Texts, tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Change a setting of every launcher, for an experiment with other results."""
    with_: Annotated[Texts, tyro.conf.arg(name="with", metavar="FRIEND")] = ()
    """Add a friend to every launcher, for an experiment with other results."""
    without: Annotated[Texts, tyro.conf.arg(metavar="FRIEND")] = ()
    """Remove a friend from every launcher, for an experiment with other results."""
    clobber: Switch = False
    """Start all these runs over."""
    report_only: Switch = False
    """Train nothing; write the report again from what is in RESULTS."""
    ship: Switch = False
    """Copy each launcher's best policy to RESULTS/policies, where --pretrained finds it."""


@script(Options)
def main(options: Options) -> int:
    """Train, evaluate, ship and report, as far as asked for."""
    changes = Changes(options.set, options.with_, options.without)
    places = {options.results, options.work}
    if changes != Changes() and {Options.results, Options.work} & places:
        raise UsageError("Changed settings go elsewhere: give --results and --work folders of their own.")
    runs = [
        Run.of(name, seed, options.work, changes)
        for name in options.environments or tuple(TARGETS)
        for seed in options.seeds
    ]
    failed, whole = ([], True) if options.report_only else train_all(runs, options)
    if options.ship:
        for name in dict.fromkeys(run.experiment.name for run in runs):
            print(ship_best(name, options.work, options.results))
    standard = options.results.resolve() == (ROOT / Options.results).resolve()
    documentation = [ROOT / "docs" / f"{name}.md" for name in DOCUMENTED]
    pages = (ROOT / "README.md", *documentation) if standard else ()
    print(write_report(options.results, *pages))
    return 130 if not whole else 1 if failed else 0


def train_all(runs: list[Run], options: Options) -> tuple[list[Run], bool]:
    """Train and evaluate what isn't yet; the runs that failed, and whether it ended uninterrupted."""
    if source_state()["dirty"]:
        print("note: the sources differ from the commit; results say so (dirty)")
    failed, jobs = [], [(run, make_job(run, options)) for run in runs]
    for name in (run.name for run, job in jobs if job is None):
        print(f"{name}: done before")
    slots = options.jobs or usable_cores()
    pool = Pool(slots, lambda line: print(f"{datetime.now():%H:%M:%S} {line}", flush=True))
    whole = pool.run([job for _, job in jobs if job is not None]) is None
    for run, job in jobs:
        failure = destination(run, options.results) / "failure.json"
        if job is not None and job.returncode == 0:
            failure.unlink(missing_ok=True)
        elif job is not None and job.returncode not in (None, 130, 143, -2, -9, -15):
            failed.append(run)
            _write_failure(failure, run, job)
    return failed, whole


def make_job(run: Run, options: Options) -> Job | None:
    """What is left to do for a run; None: nothing."""
    to = destination(run, options.results)
    target = TARGETS.get(run.experiment.name)
    episodes = options.episodes or (target.episodes if target else Target.episodes)
    trained = run.trained and not options.clobber
    if trained and is_evaluated(run, to, episodes):
        return None
    places = run.folder.path.absolute(), to.absolute()
    evaluation = (sys.executable, str(ROOT / "benchmarks/evaluate_run.py"), *map(str, (*places, episodes)))
    if trained:
        return Job(run.name, [evaluation], run.log.absolute())
    return run.job(run.name, evaluation, clobber=options.clobber)


def destination(run: Run, results: Path) -> Path:
    """Where a run's results go."""
    return results / run.experiment.name / f"seed-{run.seed}"


def is_evaluated(run: Run, folder: Path, episodes: int) -> bool:
    """Whether the policy that is saved now has been evaluated over as many episodes."""
    result = read_record(folder / "evaluation.json")
    return result.get("episodes", 0) >= episodes and result.get("policy_sha256") == policy_digest(
        run.folder.path
    )


def _write_failure(path: Path, run: Run, job: Job) -> None:
    error = last_line(job.log).replace(str(run.work.absolute()), "WORK").replace(str(ROOT), ".")[:500]
    record = {"launcher": run.experiment.name, "seed": run.seed, "settings_hash": run.hash}
    record |= {"timesteps": run.timesteps(), "exit_status": job.returncode, "error": error}
    write_json(path, source_state() | record | {"failed_at": now()})


if __name__ == "__main__":
    sys.exit(main())
