"""Runs one measurement in processes of its own, ours or a peer's, and returns its result."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.jobs import LAUNCHERS, last_line, pinned
from ppo_and_friends.distributed.cores import affinity
from ppo_and_friends.errors import PPOError, UsageError

HERE = Path(__file__).resolve().parent
Spec = dict[str, Any]

SF_WARM_UP = 2
"""Reports of Sample-Factory that are left out."""

SF_PATIENCE = 120.0
"""Seconds in which it may start."""

FRAMES = re.compile(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+)\].*Total num frames: (\d+)")


class MeasurementError(PPOError):
    """A measurement failed; says which and with what last line."""


def plain_variables(**more: str) -> dict[str, str]:
    """This process's variables without a launcher's; numbers of threads are left to the program."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
    return kept | more


def mpirun() -> str:
    """The mpirun beside this Python, or else the system's.

    Raises:
        UsageError: There is none.
    """
    beside = Path(sys.executable).parent / "mpirun"
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        raise UsageError("mpirun is missing: install the extra [mpi].")
    return found


@contextlib.contextmanager
def ended_by_interrupt() -> Iterator[None]:
    """Have SIGTERM end what runs inside as Ctrl-C does, so that what it started is ended too."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        # None: a handler that Python didn't install and can't put back.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)


def run_limited(
    command: Sequence[str],
    log: Path,
    limit: float,
    variables: Mapping[str, str],
    *,
    core: int | None = None,
    enough: Callable[[], bool] | None = None,
) -> int | None:
    """Run a command for at most ``limit`` seconds, then end it and everything it started.

    Args:
        command: What to run.
        log: Where what it says goes.
        limit: In seconds.
        variables: Its environment variables.
        core: Where to run it; None: anywhere.
        enough: Asked every second whether it may be ended already.

    Returns:
        Its exit status; None if it was ended.
    """
    with log.open("wb") as file, pinned(core):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(variables),
            start_new_session=True,
        )
    until = time.monotonic() + limit
    try:
        while time.monotonic() < until and not (enough and enough()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(min(1.0, max(0.0, until - time.monotonic())))
        return None
    finally:
        _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the process's session: first asking, then not."""
    for number, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
        if number == signal.SIGTERM and process.poll() is not None:
            time.sleep(0.2)


def _with_files(name: str, spec: Spec, command: Sequence[str], limit: float, **how: Any) -> dict[str, Any]:
    """Run ``command`` with a specification and a result file added."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answer, log = (Path(folder) / one for one in ("spec.json", "result.json", "log"))
        asked.write_text(json.dumps(spec))
        variables = how.pop("variables", None) or plain_variables()
        code = run_limited([*command, str(asked), str(answer)], log, limit, variables, **how)
        if not answer.exists():
            why = f"no result within {limit:.0f} s" if code is None else last_line(log)
            raise MeasurementError(f"{name} failed: {why}")
        result: dict[str, Any] = json.loads(answer.read_bytes())
        return result


def ours(spec: Spec, ranks: int, *, one_core: bool = False, limit: float = 900.0) -> dict[str, Any]:
    """Measure our training.

    Args:
        spec: As ``measure_ours.py`` takes it.
        ranks: MPI ranks; 1: none started.
        one_core: Pin it to a single core.
        limit: Seconds after which it has failed.

    Raises:
        MeasurementError: It failed.
    """
    core = min(affinity()) if one_core else None
    return on_ranks("measure_ours.py", spec, ranks, limit=limit, core=core)


def on_ranks(
    script: str, spec: Spec, ranks: int, *, limit: float = 900.0, core: int | None = None
) -> dict[str, Any]:
    """Run one of this folder's measuring scripts on some ranks.

    Args:
        script: Its file name.
        spec: What it takes.
        ranks: MPI ranks; 1: none started.
        limit: Seconds after which it has failed.
        core: Where to run; None: anywhere.

    Raises:
        MeasurementError: It failed.
    """
    launcher = [mpirun(), "-n", str(ranks)] if ranks > 1 else []
    command = [*launcher, sys.executable, str(HERE / script)]
    name = f"{spec.get('environment', script)} on {ranks} ranks"
    return _with_files(name, spec, command, limit, core=core)


def sb3(python: Path, spec: Spec, *, limit: float = 3600.0) -> dict[str, Any]:
    """Measure Stable-Baselines3.

    Raises:
        MeasurementError: It failed.
    """
    command = [str(python), str(HERE / "peer_sb3.py")]
    # Single-threaded torch is the faster one for its small networks.
    variables = plain_variables(OMP_NUM_THREADS=str(spec.get("threads", 1)))
    return _with_files(f"Stable-Baselines3 on {spec['env_id']}", spec, command, limit, variables=variables)


def sf_arguments(env_id: str, folder: str, workers: int) -> list[str]:
    """Sample-Factory's settings: those of its MuJoCo example, with as many workers as there are cores."""
    settings: dict[str, Any] = {
        "env": env_id,
        "experiment": "speed",
        "train_dir": folder,
        "restart_behavior": "overwrite",
        "device": "cpu",
        "num_workers": workers,
        "num_envs_per_worker": 16,
        "worker_num_splits": 2,
        "rollout": 64,
        "batch_size": 1024,
        "num_batches_per_epoch": 4,
        "num_epochs": 2,
        "use_rnn": False,
        "recurrence": 1,
        "nonlinearity": "tanh",
        "actor_critic_share_weights": True,
        "adaptive_stddev": False,
        "policy_initialization": "torch_default",
        "normalize_input": True,
        "normalize_returns": True,
        "with_vtrace": False,
        "async_rl": True,
        "serial_mode": False,
        "learning_rate": 0.00295,
        "train_for_env_steps": 1_000_000_000,
    }
    return [f"--{name}={value}" for name, value in settings.items()] + ["--encoder_mlp_layers", "64", "64"]


def sample_factory(python: Path, env_id: str, seconds: float) -> dict[str, Any]:
    """Measure Sample-Factory, from its own count of frames, without the first of its reports.

    Raises:
        MeasurementError: It failed, or reported too little.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [str(python), str(HERE / "peer_sf.py")]
        command += sf_arguments(env_id, folder, len(affinity()))

        def counts() -> list[tuple[float, int]]:
            return frame_counts(log.read_text(errors="replace"))[SF_WARM_UP:]

        def enough() -> bool:
            known = counts()
            return len(known) > 1 and known[-1][0] - known[0][0] >= seconds

        # It starts in a good ten seconds, reports every five, and runs until it is ended.
        variables = plain_variables(OMP_NUM_THREADS="1")
        code = run_limited(command, log, seconds + SF_PATIENCE, variables, enough=enough)
        known = counts()
        if len(known) < 2:
            why = f"exit status {code}, {last_line(log)}" if code else "it reported too little"
            raise MeasurementError(f"Sample-Factory on {env_id} failed: {why}")
        (start, before), (end, after) = known[0], known[-1]
        return {"steps_per_second": (after - before) / (end - start), "timesteps": after}


def frame_counts(log: str) -> list[tuple[float, int]]:
    """Seconds and frames, of each of Sample-Factory's reports that has frames."""
    found = []
    for stamp, frames in FRAMES.findall(log):
        if int(frames) > 0:
            found.append((datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").timestamp(), int(frames)))
    return found


def median_of(results: Sequence[dict[str, Any]], key: str) -> float | None:
    """The median of a measured number; None where nothing was measured."""
    known = [result[key] for result in results if result.get(key) is not None]
    return statistics.median(known) if known else None
