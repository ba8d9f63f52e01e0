"""A friend that makes environments harder, or just different, while a run goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from ppo_and_friends.common.metric import Metric
from ppo_and_friends.common.objects import resolve_object
from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.errors import UsageError, nearest
from ppo_and_friends.friends.friend import Friend, FriendContext
from ppo_and_friends.friends.stages import Stages, stages_of
from ppo_and_friends.ppo.episodes import RECENT
from ppo_and_friends.ppo.hooks import Episode, RolloutRequest
from ppo_and_friends.settings.schedules import Schedule, Status
from ppo_and_friends.vector.protocol import Task

KINDS = ("attributes", "options", "arguments")
MEAN = "episode_return_mean_100"

Values = Mapping[str, Any]


class Curriculum(Friend):
    """Change what environments are asked for while the run goes on, in training alone.

    A value is constant, a schedule (``0.5:9.8``), or goes in steps, of anything and one at a time:
    ``false,true@episode_return_mean_100>=250``. Each bound must be reached after the step before; a mean of
    the last 100 episodes counts once it is of 100 since then. A step starts all environments afresh, so that
    every later episode is of the new kind. Evaluations are of the environment as it is.
    """

    source = "doi:10.1145/1553374.1553380"
    reported = (Metric("stage", "Steps of the curriculum that were reached so far"),)

    stage: Tensor
    episodes: Tensor

    def __init__(
        self,
        attributes: Values | None = None,
        options: Values | None = None,
        arguments: Values | None = None,
        function: str | None = None,
    ) -> None:
        """Choose what changes, and how.

        Args:
            attributes: Of ``env.unwrapped``, by dotted name, set before each episode.
            options: For ``reset(options=...)``.
            arguments: For ``gymnasium.make``; environments are made anew where they change.
            function: ``module:function`` that gets the run's `Status` and returns a dictionary with any of
                ``attributes``, ``options`` and ``arguments``; asked before each rollout, on rank 0.
        """
        super().__init__()
        named = zip(KINDS, (attributes, options, arguments), strict=True)
        self.asked = {
            (kind, name): stages_of(value) for kind, each in named for name, value in (each or {}).items()
        }
        self.function = function
        if not self.asked and function is None:
            raise UsageError(f"Curriculum changes nothing: give it {', '.join(KINDS)} or a function.")
        self._stepped = [value for value in self.asked.values() if isinstance(value, Stages)]
        self.stage = self.statistic("stage", np.zeros(len(self._stepped)))
        self.episodes = self.statistic("episodes", np.array(0.0))
        self._task = Task()

    def setup(self, context: FriendContext) -> None:
        """Find the user's function."""
        super().setup(context)
        if self.function is not None:
            self._function = resolve_object(self.function, "curriculum")

    def before_rollout(self, request: RolloutRequest) -> None:
        """Take the steps that were reached, and fix what this rollout's episodes are asked for."""
        status = request.status
        self.episodes += status.latest.get("episodes", 0.0)
        taken = [self._is_reached(place, stages, status) for place, stages in enumerate(self._stepped)]
        if any(taken):
            self.stage += self.stage.new_tensor(taken)
            self.episodes.zero_()
            request.reset = True
        self._task = self._now(status)

    def _is_reached(self, place: int, stages: Stages, status: Status) -> bool:
        at = int(self.stage[place])
        if at == len(stages.bounds):
            return False
        by, bound = stages.bounds[at]
        if by == MEAN and self.episodes.item() < RECENT:
            return False
        return status.latest.get(by, -math.inf) >= bound

    def _now(self, status: Status) -> Task:
        task: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        stages = iter(self.stage.int().tolist())
        for (kind, name), value in self.asked.items():
            if isinstance(value, Stages):
                task[kind][name] = value.values[next(stages)]
            else:
                task[kind][name] = value.value(status) if isinstance(value, Schedule) else value
        if self.function is not None:
            for kind, more in on_main(self.context.communicator, lambda: self._answer(status)).items():
                task[kind] |= more
        return Task(**task)

    def _answer(self, status: Status) -> dict[str, dict[str, Any]]:
        where = f"Curriculum: function={self.function}"
        try:
            answer = self._function(status)
        except Exception as error:  # whatever the user's code raises
            raise UsageError(f"{where}: {type(error).__name__}: {error}.") from error
        ok = isinstance(answer, Mapping) and set(answer) <= set(KINDS)
        if not ok or not all(isinstance(each, Mapping) for each in answer.values()):
            raise UsageError(f"{where} must return dictionaries by {', '.join(KINDS)}, not {answer!r:.80}.")
        return {kind: dict(each) for kind, each in answer.items()}

    def choose_task(self, task: Task, episode: Episode) -> Task:
        """The same for all environments."""
        return task.but(self._task)

    def after_update(self, stats: dict[str, float]) -> None:
        """Refuse bounds on numbers that no run has, as soon as an iteration shows which there are."""
        known = [*stats, "timesteps", "iteration"]
        places = ("info", *(friend.name for friend in self.context.others(Friend)))
        for by in dict.fromkeys(by for stages in self._stepped for by, _ in stages.bounds):
            if by not in known and by.partition("/")[0] not in places:
                near = nearest(by, known)
                meant = f" Did you mean {', '.join(near)}?" if near else ""
                raise UsageError(f"Curriculum: no number of the run is called {by!r}.{meant}")

    def metrics(self) -> dict[str, float]:
        """Steps so far."""
        return {"stage": self.stage.sum().item()}
