"""Are deterministic shards equal to the bit? ``python benchmarks/layouts.py --ranks 1 2 3 4 8`` finds out.

On each number of ranks, every launcher is trained for two short iterations in single precision. Then each run
is continued on the *next* number of ranks, for two more. After both, checkpoints are compared byte for byte,
and the metrics of every iteration. Fails if anything differs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.jobs import variables
from benchmarks.report import MeasurementError, command_line
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.registry import all_launchers, resolve
from ppo_and_friends.studies.first_difference import compare_bits

STAGE = 2
"""Iterations after which runs are compared, and continued on another number of ranks."""


@dataclass(frozen=True)
class Options:
    """Train on several numbers of ranks, and compare the results bit by bit."""

    environments: tuple[str, ...] = ()
    """Launchers; none: all whose packages are installed."""
    ranks: tuple[int, ...] = (1, 2, 3, 4, 8)
    """Numbers of ranks."""
    shards: int = 8
    """V, at least the highest of them."""
    threads: tuple[int, ...] = (1, 2)
    """OMP_NUM_THREADS of the jobs, in turns: it must not matter."""
    inside: Path | None = None
    """Where to train, for the jobs that this command starts."""


def shortened(name: str, shards: int) -> Experiment:
    """A launcher with little to do in an iteration: 16 steps, two epochs of two minibatches."""
    timesteps = 16 * shards
    changes = {
        "deterministic_shards": shards,
        "ppo.rollout_timesteps": timesteps,
        "ppo.minibatch_size": timesteps // 2,
        "ppo.epochs": 2,
        "device": "cpu",
        "checkpoint_seconds": 0.0,
    }
    chosen = resolve(name)
    if chosen.ppo.sequence_length is not None:
        changes["ppo.sequence_length"] = 8
    return chosen.with_changes(changes, num_envs=shards, num_timesteps=10**9)


def train_all(options: Options) -> int:
    """What each rank of a job does: train every launcher for a stage."""
    from ppo_and_friends import Run
    from ppo_and_friends.distributed.launch import guard, make_communicator

    assert options.inside is not None
    communicator = make_communicator()
    with guard(communicator):
        for name in options.environments:
            folder = options.inside / name
            experiment = shortened(name, options.shards)
            run = Run(experiment, folder, communicator=communicator, tensorboard=False)
            for done, _ in enumerate(run.iterations(), 1):
                if done == STAGE:
                    break
            run.close()
    return 0


def says_equal(found: str) -> bool:
    """Whether a comparison found both metrics and checkpoints, and all of them equal."""
    equal = ("Policy ", "Metrics: equal in ", "Checkpoints: equal bit for bit")
    return bool(found) and all(line.startswith(equal) for line in found.splitlines())


def launch(options: Options, ranks: int, names: tuple[str, ...], folder: Path, threads: int) -> None:
    """Train a stage of every launcher in a job of so many ranks."""
    sizes = ("--ranks", str(ranks), "--shards", str(options.shards))
    program = (sys.executable, str(Path(__file__).resolve()), "--inside", str(folder), *sizes)
    before = (mpirun(), "-n", str(ranks)) if ranks > 1 else ()
    done = subprocess.run(
        [*before, *program, "--environments", *names],
        env=variables(threads),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise MeasurementError(f"{ranks} ranks: {done.stderr.strip() or done.returncode}")


def mpirun() -> str:
    """The MPI launcher beside this Python, or else the system's."""
    beside = Path(sys.executable).with_name("mpirun")
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        raise UsageError("mpirun is missing: install the extra [mpi].")
    return found


def installed(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the launchers whose packages are there."""
    return tuple(name for name in names if resolve(name).environment.api == "gymnasium" or has_petting_zoo())


def has_petting_zoo() -> bool:
    """Whether environments of several agents can be made."""
    return all(find_spec(package) is not None for package in ("pettingzoo", "mpe2"))


def campaign(options: Options) -> int:
    """Train and compare; 1 if anything differs."""
    if options.inside is not None:
        return train_all(options)
    names = options.environments or tuple(known.name for known in all_launchers())
    missing = [name for name in names if name not in installed(names)]
    names = installed(names)
    if missing:
        print(f"Left out, as their packages aren't installed: {', '.join(missing)}")
    if not names:
        raise UsageError("Nothing is left to compare.")
    differing = []
    with tempfile.TemporaryDirectory() as work:
        places = [Path(work) / str(ranks) for ranks in options.ranks]
        # In the second stage, what one number of ranks began is continued by the next.
        for hosts in (options.ranks, (*options.ranks[1:], options.ranks[0])):
            for turn, (ranks, place) in enumerate(zip(hosts, places, strict=True)):
                threads = options.threads[turn % len(options.threads)]
                launch(options, ranks, names, place, threads)
                print(f"{place.name} ranks: continued on {ranks} of {threads} threads", flush=True)
            for name in names:
                for place in places[1:]:
                    found = compare_bits(places[0] / name, place / name)
                    if not says_equal(found):
                        differing.append(f"{name}, {places[0].name} and {place.name} ranks: {found}")
    print("\n".join(differing))
    print(
        f"{len(names)} launchers on {', '.join(map(str, options.ranks))} ranks, {options.shards} shards, "
        f"each continued on another number: {len(differing)} comparisons differ."
    )
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(command_line(Options, "layouts.py", campaign))
