"""Commands side by side: order, failure, cores, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.jobs import Job, Pool, last_line


def python(text: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", text)


def test_commands_follow_one_another_and_a_failure_ends_the_job(tmp_path: Path) -> None:
    good = Job("good", [python("print('one')"), python("print('two')")], tmp_path / "good.log")
    bad = Job(
        "bad", [python("import sys; sys.exit('boom\\n\\n')"), python("print('never')")], tmp_path / "bad.log"
    )
    said: list[str] = []
    assert Pool(2, said.append).run([good, bad]) is None
    assert (good.returncode, bad.returncode) == (0, 1)
    assert (tmp_path / "good.log").read_text() == "one\ntwo\n"
    assert last_line(tmp_path / "bad.log") == "boom"
    assert any("bad: FAILED (1): boom" in line for line in said)


def test_no_more_run_at_once_than_there_are_slots(tmp_path: Path) -> None:
    script = (
        "import os, time, pathlib, sys; here = pathlib.Path(sys.argv[1]); mine = here / str(os.getpid());"
        "mine.touch(); print(len(list(here.iterdir()))); time.sleep(0.3); mine.unlink()"
    )
    running = tmp_path / "running"
    running.mkdir()
    jobs = [Job(f"{i}", [(*python(script), str(running))], tmp_path / f"{i}.log") for i in range(5)]
    assert Pool(2, lambda line: None).run(jobs) is None
    assert all(int(job.log.read_text()) <= 2 for job in jobs)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores can't be chosen here")
def test_a_command_runs_on_one_core_with_one_thread(tmp_path: Path) -> None:
    mine = os.sched_getaffinity(0)
    text = "import os; print(sorted(os.sched_getaffinity(0)), os.environ['OMP_NUM_THREADS'])"
    job = Job("job", [python(text)], tmp_path / "log")
    assert Pool(1, lambda line: None).run([job]) is None
    assert job.log.read_text().split() == [f"[{min(mine)}]", "1"]
    assert os.sched_getaffinity(0) == mine


def test_interrupting_asks_all_to_stop_waits_for_them_and_starts_no_more(tmp_path: Path) -> None:
    # As main.py does: what is under way is finished and saved.
    text = (
        "import signal, sys, time\n"
        "def stop(*_):\n time.sleep(0.3); print('saved', flush=True); sys.exit(130)\n"
        "signal.signal(signal.SIGINT, stop)\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    jobs = [Job(f"{i}", [python(text), python("print('never')")], tmp_path / f"{i}.log") for i in range(3)]
    before = signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until and any(last_line(job.log) != "ready" for job in jobs[:2]):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert Pool(2, lambda line: None).run(jobs) == signal.SIGINT
    thread.join()
    assert [job.returncode for job in jobs] == [130, 130, None]
    assert [job.log.read_text() for job in jobs[:2]] == ["ready\nsaved\n"] * 2
    assert signal.getsignal(signal.SIGINT) == before


def test_a_second_interrupt_kills(tmp_path: Path) -> None:
    text = (
        "import signal, time\nsignal.signal(signal.SIGINT, lambda *_: print('no', flush=True))\n"
        "print('ready', flush=True)\n"
        "for _ in range(600): time.sleep(0.1)"
    )
    job = Job("stubborn", [python(text)], tmp_path / "log")

    def interrupt() -> None:
        for word in ("ready", "no"):
            until = time.monotonic() + 20
            while time.monotonic() < until and last_line(job.log) != word:
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert Pool(1, lambda line: None).run([job]) == signal.SIGINT
    thread.join()
    assert job.returncode == -signal.SIGKILL
