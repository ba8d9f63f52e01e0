"""What reports cost: the CPU time that goes into them in a run at a terminal."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO
from unittest import mock

from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.reporting.report import IterationReport
from ppo_and_friends.reporting.reporter import SilentReporter
from ppo_and_friends.settings.experiment import Experiment


class Timed(SilentReporter):
    """Reporters, and the CPU seconds that go into them. Wall time would count what disturbs them, too."""

    def __init__(self, reporters: SilentReporter) -> None:
        self._reporters = reporters
        self._began = 0.0
        self._threads = set(threading.enumerate())
        self.spent = 0.0
        """Seconds of the iterations' reports, taking samples of the rollout included."""

        self.ends = 0.0
        """Seconds of beginning and ending: event files, the network's graph, the learning curve."""

    def seconds(self) -> float:
        """Of all reports so far and of the threads that draw and write them; not of the ends."""
        return self.spent + sum(
            time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
            for thread in threading.enumerate()
            if thread not in self._threads and thread.ident is not None
        )

    def start(
        self,
        experiment: Experiment,
        ranks: int,
        resumed_from: int | None = None,
        notes: Sequence[str] = (),
        *,
        resumed_timesteps: int | None = None,
    ) -> None:
        with self._at_an_end():
            self._reporters.start(experiment, ranks, resumed_from, notes, resumed_timesteps=resumed_timesteps)

    def model(self, agent: Agent) -> None:
        with self._at_an_end():
            self._reporters.model(agent)

    def wants_samples(self) -> bool:
        self._began = time.thread_time()
        return self._reporters.wants_samples()

    def iteration(self, report: IterationReport) -> None:
        self._reporters.iteration(report)
        self.spent += time.thread_time() - self._began

    def finish(self, summary: str) -> None:
        with self._at_an_end():
            self._reporters.finish(summary)

    def close(self) -> None:
        with self._at_an_end():
            self._reporters.close()

    @contextmanager
    def _at_an_end(self) -> Iterator[None]:
        start = time.thread_time()
        yield
        self.ends += time.thread_time() - start


@contextmanager
def terminal() -> Iterator[TextIO]:
    """A terminal of 80 columns that shows nobody what is written."""
    main, side = os.openpty()

    def drain() -> None:
        try:
            while os.read(main, 65536):
                pass
        except OSError:
            return  # it was closed

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    sizes = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"}
    with mock.patch.dict(os.environ, sizes), os.fdopen(side, "w") as stream:
        yield stream
    reader.join(5.0)
    os.close(main)
