"""A session of several policies: their sessions, iteration by iteration, saved together."""

from __future__ import annotations

from dataclasses import dataclass, field

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.errors import CheckpointError
from ppo_and_friends.reporting.report import IterationReport
from ppo_and_friends.runs.checkpoint import Checkpoint
from ppo_and_friends.runs.run_folder import RunFolder
from ppo_and_friends.runs.session import Session, load_checkpoint


def common_checkpoints(
    communicator: Communicator, folders: dict[str, RunFolder]
) -> dict[str, Checkpoint] | None:
    """The newest checkpoints of all policies that are of one iteration. Collective.

    A job that was killed while it saved leaves some policies an iteration ahead of the others.

    Returns:
        By policy; None if nothing is saved.

    Raises:
        CheckpointError: On all ranks, if a policy has none, or none of an iteration that the others have.
    """
    found = {name: load_checkpoint(communicator, folder) for name, folder in folders.items()}
    if all(each is None for each in found.values()):
        return None
    while True:
        for name, each in found.items():
            if each is None:
                raise CheckpointError(
                    f"{folders[name].path} has no checkpoint of an iteration that the other policies have. "
                    "Use --clobber to start over."
                )
        whole = {name: each for name, each in found.items() if each is not None}
        least = min(each.state["iteration"] for each in whole.values())
        ahead = [name for name, each in whole.items() if each.state["iteration"] > least]
        if not ahead:
            return whole
        for name in ahead:
            found[name] = load_checkpoint(communicator, folders[name], before=whole[name].path)


class MemberSession(Session):
    """The session of one policy, which is saved when all are."""

    def _is_due(self) -> bool:
        return False

    def _iterate_in_time(self) -> IterationReport | None:
        # A rollout that one policy gave up would be missing to the others, which are an iteration ahead.
        self.trainer.collector.deadline = None
        return self._iterate()


@dataclass
class JointSession(Session):
    """Advances the sessions of all policies. Its trainer is the first one's."""

    members: list[MemberSession] = field(default_factory=list)

    def advance(self) -> IterationReport | None:
        """Train an iteration of every policy, and save if that is due; None if there is nothing left."""
        if self.stopped or self.finished():
            return None
        reports = []
        for member in self.members:
            member.interrupts, member.stopped = self.interrupts, False
            reports.append(member.advance())
        self.stopped = any(member.stopped for member in self.members)
        if self.folder is not None and self._is_due():
            self._save_or_warn()
        return reports[0]

    def finished(self) -> bool:
        """Whether a policy has its share of the timesteps, or a friend ends the training."""
        return any(member.finished() for member in self.members)

    def tell_notices(self) -> None:
        """The first one tells them."""

    def save(self) -> None:
        """Save every policy, unless it is saved already; see `Session.save`. A collective."""
        for member in self.members:
            member.save()
