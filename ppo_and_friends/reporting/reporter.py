"""The interface of reporters, and one that reports nothing."""

from __future__ import annotations

from typing import Literal, Protocol

from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.reporting.report import IterationReport, RunStart

Level = Literal["note", "warning"]


class Reporter(Protocol):
    """Reports the run's progress to a person, a file or a service. Exists on every rank."""

    def start(self, run: RunStart) -> None:
        """Called once, before the first iteration."""
        ...

    def model(self, agent: Agent) -> None:
        """Called once, after ``start``, with the agent, which must not be changed."""
        ...

    def wants_samples(self) -> bool:
        """Called before every report: whether it should carry samples of the rollout."""
        ...

    def iteration(self, report: IterationReport) -> None:
        """Called after every iteration."""
        ...

    def message(self, text: str, *, level: Level = "note") -> None:
        """Called with a line for the user: a warning, or a note (which ``--quiet`` leaves out)."""
        ...

    def interrupted(self, text: str) -> bool:
        """Called inside a signal handler, with what happens now; whether the user will see it."""
        ...

    def finish(self, summary: str) -> None:
        """Called when training ended as it should, with what to say about it."""
        ...

    def close(self) -> None:
        """Called last, whatever happened, perhaps more than once."""
        ...


class SilentReporter:
    """Reports nothing: for all ranks but the first, and as a base class for reporters."""

    must_not_stop = False
    """Keep calling this reporter after it failed (the plain record of the run)."""

    def start(self, run: RunStart) -> None:
        """See `Reporter`."""

    def model(self, agent: Agent) -> None:
        """See `Reporter`."""

    def wants_samples(self) -> bool:
        """See `Reporter`."""
        return False

    def iteration(self, report: IterationReport) -> None:
        """See `Reporter`."""

    def message(self, text: str, *, level: Level = "note") -> None:
        """See `Reporter`."""

    def interrupted(self, text: str) -> bool:
        """See `Reporter`."""
        return False

    def finish(self, summary: str) -> None:
        """See `Reporter`."""

    def close(self) -> None:
        """See `Reporter`."""
