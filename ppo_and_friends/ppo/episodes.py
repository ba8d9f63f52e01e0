"""Returns and lengths of whole episodes, over however many rollouts they span."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.common.infos import PREFIX, means
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.layout import Layout

Array = NDArray[Any]

RECENT = 100
"""Episodes in the moving mean."""


class EpisodeTracker:
    """Adds up returns and lengths of this rank's episodes, also over several rollouts."""

    def __init__(self, layout: Layout) -> None:
        """Start with no unfinished episode in any environment of ``layout``."""
        self._first = layout.first
        self._return: Array = np.zeros(layout.local)
        self._length: Array = np.zeros(layout.local)

    def restart(self) -> None:
        """Drop the unfinished episodes, since all environments are reset."""
        self._return[:] = 0.0
        self._length[:] = 0.0

    def rows(self) -> dict[str, Array]:
        """Sums of the unfinished episodes, [B] by name."""
        return {"return": self._return.copy(), "length": self._length.copy()}

    def restore_rows(self, rows: Mapping[str, Array]) -> None:
        """Go on from what ``rows`` returned."""
        self._return, self._length = rows["return"].copy(), rows["length"].copy()

    def update(self, true_rewards: Array, finished: Array, valid: Array) -> Array:
        """Take in a rollout.

        Args:
            true_rewards: [T, B], what the environments themselves paid.
            finished: [T, B] bool, a whole episode ended with this step.
            valid: [T, B] bool, False where the row is a reset and no step.

        Returns:
            [n, 4] float64, for each finished episode: the step t at which it ended, the
            global environment index, its return and its length in steps.
        """
        total_reward = self._return + np.cumsum(true_rewards * valid, axis=0, dtype=np.float64)
        length = self._length + np.cumsum(valid, axis=0, dtype=np.float64)
        ended = []
        for env in np.flatnonzero(finished.any(axis=0)):
            before = np.zeros(2)
            for t in np.flatnonzero(finished[:, env]):
                total = np.array((total_reward[t, env], length[t, env]))
                ended.append((float(t), float(self._first + env), *(total - before)))
                before = total
            total_reward[-1, env] -= before[0]
            length[-1, env] -= before[1]
        self._return, self._length = total_reward[-1].copy(), length[-1].copy()
        return np.array(ended, dtype=np.float64).reshape(-1, 4)


class EpisodeStatistics:
    """Returns of all ranks' episodes; equal on every rank."""

    def __init__(self) -> None:
        """Begin with none."""
        self.recent: deque[float] = deque(maxlen=RECENT)
        self.total = 0

    def summarise(self, episodes: Array, communicator: Communicator) -> dict[str, float]:
        """Gather an iteration's episodes.

        Args:
            episodes: [n, 4], this rank's, as ``EpisodeTracker.update`` gives them.
            communicator: A collective is made.

        Returns:
            episodes (their number), episode_return_mean, episode_return_std, episode_return_min,
            episode_return_max, episode_length_mean (NaN without episodes), episode_return_mean_100 (of the
            last 100 episodes, or of as many as there were) and episodes_in_mean (how many these are).
        """
        ended = communicator.concatenate(episodes)
        # Ordered by time, then by environment: the same for any division among the ranks.
        ended = ended[np.lexsort((ended[:, 1], ended[:, 0]))]
        returns = ended[:, 2]
        self.recent.extend(returns.tolist())
        self.total += len(returns)
        some = len(returns) > 0
        nan = float("nan")
        return {
            "episodes": float(len(returns)),
            "episode_return_mean": float(returns.mean()) if some else nan,
            "episode_return_std": float(returns.std()) if some else nan,
            "episode_return_min": float(returns.min()) if some else nan,
            "episode_return_max": float(returns.max()) if some else nan,
            "episode_length_mean": float(ended[:, 3].mean()) if some else nan,
            "episode_return_mean_100": float(np.mean(self.recent)) if self.recent else nan,
            "episodes_in_mean": float(len(self.recent)),
        }


def info_means(
    infos: Sequence[Mapping[str, float]], communicator: Communicator, anyones: bool
) -> dict[str, float]:
    """Means over all ranks' episodes of what environments reported at their ends, as ``info/<name>``.

    Args:
        infos: This rank's, one entry an episode.
        communicator: A collective is made, if there is anything to gather.
        anyones: Whether any rank has an entry; equal on all ranks.
    """
    if not anyones:
        return {}
    everyone = (info for rank in communicator.gather(list(infos)) for info in rank)
    return {f"{PREFIX}{name}": mean for name, mean in means(everyone).items()}


class Highest:
    """The highest value that each number of a run's status has had: a bound that is reached stays reached.

    Attributes:
        numbers: These values by name.
        latest: The numbers of the last iteration.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.numbers: dict[str, float] = {}
        self.latest: dict[str, float] = {}

    def begin(self, numbers: Mapping[str, float]) -> None:
        """Take in the first numbers of an iteration; `take` adds others."""
        self.latest.clear()
        self.take(numbers)

    def take(self, numbers: Mapping[str, float]) -> None:
        """Add an iteration's numbers, equal on all ranks; NaN is ignored.

        A moving mean counts only over a full window: that of a run's first episodes is of the shortest
        ones, which finish first, and a single lucky one would decide for good.
        """
        for name, value in numbers.items():
            if not math.isnan(value):
                self.latest[name] = value
            if name == "episode_return_mean_100" and numbers["episodes_in_mean"] < RECENT:
                continue
            if not math.isnan(value):
                self.numbers[name] = max(value, self.numbers.get(name, -math.inf))
