"""A friend that records videos of the policy during training."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from ppo_and_friends.errors import PPOError, UsageError
from ppo_and_friends.friends.friend import Friend, FriendContext
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.hooks import Controls


class VideoRecorder(Friend):
    """Record an episode of the policy every so often, into ``videos/`` in the run's folder.

    TensorBoard and the other trackers show it, too. Rank 0 plays it on the canonical
    environment with frozen statistics and separate random numbers, so training is unaffected.
    """

    source = "PPO and Friends"
    only_watches = True

    due: Tensor

    def __init__(
        self, every: int = 100_000, format: Literal["gif", "mp4"] = "gif", deterministic: bool = True
    ) -> None:
        """Choose when and how to record.

        Args:
            every: Timesteps between two recordings, >= 1.
            format: ``gif`` or ``mp4``.
            deterministic: Take the most probable actions; False: sample them.
        """
        super().__init__()
        if every < 1:
            raise UsageError(f"VideoRecorder: every must be at least 1, not {every}.")
        self.every, self.format, self.deterministic = every, format, deterministic
        self.due = self.statistic("due", np.array(float(every)))
        self._timesteps = 0
        self._records = False
        self._new: dict[str, Path] = {}

    def setup(self, context: FriendContext) -> None:
        """Check that the environment can be rendered, before anything is trained."""
        super().setup(context)
        self._records = context.communicator.is_main and context.folder is not None
        if self._records:
            from ppo_and_friends.evaluation.rendering import prepare_offscreen

            prepare_offscreen(context.experiment.environment)

    def attach(self, agent: Agent) -> None:
        """Keep the policy, including the other friends' observation transforms."""
        self._policy = agent.policy()

    def before_update(self, controls: Controls) -> None:
        """Keep track of the training's progress."""
        self._timesteps = controls.timesteps

    def after_update(self, stats: dict[str, float]) -> None:
        """Record, if a recording is due."""
        if self._timesteps < self.due.item():
            return
        self.due.fill_((self._timesteps // self.every + 1) * self.every)
        if self._records:
            with self.context.stopwatch.measure("evaluation"):
                self._record()

    def _record(self) -> None:
        from ppo_and_friends.evaluation.evaluate import evaluate

        assert self.context.folder is not None
        path = self.context.folder / "videos" / f"{self._timesteps:012d}.{self.format}"
        try:
            evaluate(
                self.context.in_company(self._policy),
                self.context.experiment.environment,
                episodes=1,
                seed=int(self.generator(self._timesteps).integers(2**30)),
                deterministic=self.deterministic,
                render="record",
                timesteps=self._timesteps,
                video_path=path,
            )
            self._new = {self.name: path}
        except PPOError as error:
            # A failed recording must not end the training.
            self._records = False
            warnings.warn(f"VideoRecorder stops: {error}", stacklevel=2)

    def recordings(self) -> dict[str, Path]:
        """This iteration's video, if there is one."""
        new, self._new = self._new, {}
        return new
