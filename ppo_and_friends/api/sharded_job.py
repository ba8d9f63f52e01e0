"""The job of a run of deterministic shards: one for each shard that this process hosts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from ppo_and_friends.api.job import Job, Snapshot
from ppo_and_friends.distributed.interrupts import Interrupts
from ppo_and_friends.distributed.shards import HostedShards
from ppo_and_friends.reporting.report import IterationReport
from ppo_and_friends.runs.checkpoint import Checkpoint


@dataclass
class ShardedJob(Job):
    """An open training whose collectives are made by every shard. Its session is the first shard's."""

    hosted: HostedShards = field(kw_only=True)
    jobs: list[Job] = field(kw_only=True)

    @property
    def timesteps(self) -> int:
        """Agent steps so far, of all policies."""
        return self.jobs[0].timesteps

    def snapshots(self) -> dict[str, Snapshot]:
        """Copies of the current policies, in memory, by name."""
        return self.jobs[0].snapshots()

    def attend(self, interrupts: Interrupts) -> None:
        """Go on after a pause, reacting to signals by means of these interrupts."""
        for job, communicator in zip(self.jobs, self.hosted.communicators, strict=True):
            job.attend(interrupts.seen_by(communicator))

    def advance(self) -> IterationReport | None:
        """Train one iteration; see `Session.advance`. A collective."""
        return self.hosted.run(lambda local: self.jobs[local].advance())[0]

    def save(self) -> None:
        """Save; see `Session.save`. A collective."""
        self.hosted.run(lambda local: self.jobs[local].save())

    def begin_reports(self, verbosity: int) -> None:
        """Open the reporters unless they are open. A collective."""
        self.hosted.run(lambda local: self.jobs[local].begin_reports(verbosity))

    def end_reports(self) -> None:
        """Report the summary and close the reporters. A collective."""
        self.hosted.run(lambda local: self.jobs[local].end_reports())

    def interrupted(self, text: str) -> bool:
        """Show a message from inside a signal handler; returns whether the user will see it."""
        return self.jobs[0].interrupted(text)

    def close(self) -> None:
        """Release everything. Not a collective."""
        self.resources.close()


def open_sharded_job(
    opener: Callable[..., Job | Checkpoint], hosted: HostedShards, interrupts: Interrupts
) -> ShardedJob | Checkpoint:
    """Open the job of every shard. A collective.

    Args:
        opener: `open_job` or `open_joint_job`, but for ``communicator`` and ``interrupts``.
        hosted: This process's shards.
        interrupts: The process's.

    Returns:
        As the opener: the job, or the checkpoint of a run that is trained already.
    """
    with ExitStack() as resources:

        def open_one(local: int) -> Job | Checkpoint:
            communicator = hosted.communicators[local]
            opened = opener(communicator=communicator, interrupts=interrupts.seen_by(communicator))
            if isinstance(opened, Job):
                resources.callback(opened.close)
            return opened

        jobs = list[Job]()
        for opened in hosted.run(open_one):
            if isinstance(opened, Checkpoint):
                return opened
            jobs.append(opened)
        first, held = jobs[0], resources.pop_all()
        return ShardedJob(first.session, 1, held, first.reporting, first.notes, hosted=hosted, jobs=jobs)
