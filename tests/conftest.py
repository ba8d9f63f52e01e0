"""Shared fixtures: real MPI jobs, and processes free of whatever launched the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from ppo_and_friends.distributed.interrupts import SIGNALS

ROOT = Path(__file__).resolve().parent.parent
LAUNCHERS = ("OMPI_", "PMI", "PMIX_", "MV2_", "SLURM_", "PALS_", "FLUX_", "JSM_", "HYDI_", "MPI_LOCAL")

RunMPI = Callable[..., "subprocess.CompletedProcess[str]"]


def clean_environment() -> dict[str, str]:
    """The environment variables without any launcher's, with this checkout importable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
    path = os.pathsep.join(part for part in (str(ROOT), kept.get("PYTHONPATH")) if part)
    return kept | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests behave alike on a desk and inside a batch job."""
    for name in list(os.environ):
        if name.startswith(LAUNCHERS):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def same_signal_handlers() -> Iterator[None]:
    """A handler that a test leaves behind is inherited by every process that a later test starts."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    after = {number: signal.getsignal(number) for number in before}
    for number, handler in before.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
    assert after == before


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """A test that trains convolutions gives torch all cores; small networks after it would crawl."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mpirun_path() -> str:
    """The mpirun beside this Python, or else the system's. Where it must not be missing, it fails."""
    beside = Path(sys.executable).parent / "mpirun"
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("mpirun is missing: install the extra [mpi]")
        pytest.skip("mpirun is missing: install the extra [mpi]")
    return found


@pytest.fixture
def run_mpi(mpirun_path: str, tmp_path: Path) -> RunMPI:
    """``run_mpi(size, script or arguments, timeout=60)``: Python on ``size`` real MPI ranks.

    A string is a script's text; a sequence is what follows ``python``. The job runs in a session of
    its own, and nothing of it survives the time limit, at which ``subprocess.TimeoutExpired`` is raised.
    """

    def run(
        size: int,
        what: str | Sequence[str],
        *,
        timeout: float = 60,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        if isinstance(what, str):
            script = tmp_path / "script.py"
            script.write_text(what)
            what = [str(script)]
        command = [mpirun_path, "-n", str(size), sys.executable, *what]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=clean_environment() | (env or {}),
            cwd=cwd or tmp_path,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            # mpirun passes SIGTERM on to its ranks and then is given a moment to clean up.
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
            raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    return run
