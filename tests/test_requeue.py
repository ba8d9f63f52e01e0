"""A Slurm job that has saved is queued again: with a stand-in for scontrol that writes down what it is asked.

`.ci/slurm` does it with a real Slurm.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from ppo_and_friends.distributed import requeue as requeues
from ppo_and_friends.distributed.requeue import check_requeue, requeue
from ppo_and_friends.errors import UsageError
from tests.command_line import latest, run, toy

STAND_IN = """#!/bin/sh
echo "$@" >>"$0.asked"
case "$1" in
show) cat "$0.shown" ;;
requeue) echo "$(cat "$0.refusal")" >&2; test ! -s "$0.refusal" ;;
esac
"""
RUNNING = "JobId=7 JobState=RUNNING Reason=None Requeue=1 Restarts=0 BatchFlag=1"
AGAIN = "Job 7 is queued again."


def asked(number: int = signal.SIGUSR1) -> list[str]:
    said: list[str] = []
    requeue("7", number, said.append)
    return said


class Slurm:
    """What the stand-in answers, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "scontrol"
        self.program.write_text(STAND_IN)
        self.program.chmod(0o755)
        self.shows(RUNNING)
        self.refuses("")

    def shows(self, job: str) -> None:
        self.program.with_name("scontrol.shown").write_text(job)

    def refuses(self, why: str) -> None:
        self.program.with_name("scontrol.refusal").write_text(why)

    @property
    def requeued(self) -> bool:
        return "requeue 7" in self.program.with_name("scontrol.asked").read_text().splitlines()


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    return Slurm(tmp_path)


@pytest.mark.parametrize(
    ("number", "status", "shown", "said"),
    [
        (signal.SIGUSR1, 138, RUNNING, "Job 7 is queued again."),
        (signal.SIGTERM, 143, RUNNING, "Job 7 is queued again."),
        (signal.SIGINT, 130, RUNNING, "Job 7 isn't queued again: it was stopped by SIGINT."),
        (
            signal.SIGTERM,
            143,
            RUNNING.replace("RUNNING", "COMPLETING"),
            "Job 7 was cancelled, so it isn't queued again.",
        ),
    ],
)
def test_a_stopped_run_is_queued_again_unless_it_was_cancelled(
    slurm: Slurm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    status: int,
    shown: str,
    said: str,
) -> None:
    given = toy(tmp_path, f"--with=tests.toys:SignalAt:iteration=2,number={int(number)}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    slurm.shows(shown)
    done = run(*given, "--requeue_on_preemption")
    assert (done.status, done.out.splitlines()[-1]) == (status, said), done.err
    assert slurm.requeued == ("is queued" in said)
    assert latest(tmp_path).state["iteration"] == 2
    # Without the option, and outside a job, Slurm isn't asked for anything.
    slurm.program.with_name("scontrol.asked").write_text("")
    again = run(*given, "--clobber")
    monkeypatch.delenv("SLURM_JOB_ID")
    assert run(*given, "--clobber", "--requeue_on_preemption").status == again.status == status
    assert not slurm.requeued


@pytest.mark.parametrize(
    ("state", "reason", "again"),
    [
        ("RUNNING", "None", True),
        ("COMPLETING", "TimeLimit", True),
        ("COMPLETING", "None", False),
        ("CANCELLED", "None", False),
        ("PREEMPTED", "None", True),
    ],
)
def test_slurm_tells_a_time_limit_from_a_cancellation(
    slurm: Slurm, state: str, reason: str, again: bool
) -> None:
    slurm.shows(f"JobId=7 JobState={state} Reason={reason} Requeue=1")
    assert (asked(signal.SIGTERM) == [AGAIN]) == again == slurm.requeued


def test_what_slurm_refuses_is_said(slurm: Slurm) -> None:
    slurm.refuses("Job is pending execution for job 7")  # Slurm itself was faster
    assert asked() == [AGAIN]
    slurm.refuses("Requests are disabled")
    assert asked() == [AGAIN, "Slurm refuses that: Requests are disabled. Submit it again to go on."]


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("BatchFlag=0 Requeue=1", "job 7 is no batch job: submit a script with sbatch."),
        ("BatchFlag=1 Requeue=0", "job 7 may not be queued again: submit it with sbatch --requeue."),
    ],
)
def test_a_job_that_cannot_be_queued_again_is_refused_at_once(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: str, said: str
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    slurm.shows(shown)
    done = run(*toy(tmp_path, "--requeue_on_preemption"))
    assert (done.status, done.complaint) == (2, [f"--requeue_on_preemption: {said}"])


def test_without_scontrol(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(slurm.program.parent))  # without this machine's own
    slurm.program.unlink()
    with pytest.raises(UsageError, match="scontrol can't be run: No such file or directory"):
        check_requeue("7")
    assert asked() == [AGAIN, "Slurm refuses that: No such file or directory. Submit it again to go on."]
    monkeypatch.setattr(requeues, "SECONDS", 0.2)
    slurm.program.write_text("#!/bin/sh\nexec /bin/sleep 20\n")
    slurm.program.chmod(0o755)
    assert "no answer within 0.2 s" in asked()[1]
