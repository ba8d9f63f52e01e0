"""What an evaluation returns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.common.infos import means
from ppo_and_friends.evaluation.player import Episode

Array = NDArray[Any]


@dataclass(frozen=True)
class Evaluation:
    """The results of a policy's evaluation."""

    environment: str
    """Gymnasium id."""

    timesteps: int
    """Number of agent steps the policy was trained for."""

    episodes: tuple[Episode, ...]
    """The episodes, in the order in which they were played."""

    deterministic: bool = True
    """Whether the policy took its distribution's mode instead of sampling actions."""

    seed: int = 0
    """Episode i was reset with ``seed + i``."""

    video: Path | None = None
    """The recording; None if there is none."""

    def __repr__(self) -> str:
        """In one line."""
        spread = f"{self.mean:.6g} +- {self.std:.6g}" if self.episodes else "nothing"
        return f"<Evaluation of {self.environment}: {spread} over {len(self.episodes)} episodes>"

    @property
    def returns(self) -> Array:
        """The episodes' returns, [episodes] float64."""
        return np.array([episode.episode_return for episode in self.episodes], dtype=np.float64)

    @property
    def scores(self) -> Array:
        """The former name of ``returns``."""
        return self.returns

    @property
    def lengths(self) -> Array:
        """[episodes] int64, steps as the agent counts them."""
        return np.array([episode.length for episode in self.episodes], dtype=np.int64)

    @property
    def mean(self) -> float:
        """The score: the mean of the episode returns."""
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Population standard deviation of the returns (normalised by N, not N - 1)."""
        return float(self.returns.std())

    @property
    def min(self) -> float:
        """Lowest return."""
        return float(self.returns.min())

    @property
    def max(self) -> float:
        """Highest return."""
        return float(self.returns.max())

    @property
    def infos(self) -> dict[str, float]:
        """Means of the numbers that the environment reported at the episodes' ends, by name."""
        return means(episode.info for episode in self.episodes)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``test_scores.json``."""
        return {
            "environment": self.environment,
            "timesteps": self.timesteps,
            "episodes": [
                {"score": one.episode_return, "length": one.length}
                | ({"info": dict(one.info)} if one.info else {})
                for one in self.episodes
            ],
            "mean": self.mean,
            "std": self.std,
            "min": self.min,
            "max": self.max,
            **({"infos": self.infos} if self.infos else {}),
            "deterministic": self.deterministic,
            "seed": self.seed,
        }

    def write(self, path: Path) -> None:
        """Write the results to a JSON file, atomically.

        Args:
            path: The file, usually ``test_scores.json``; its folder is created if necessary.

        Raises:
            OSError: The file can't be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, (json.dumps(self.as_dict(), indent=2) + "\n").encode())
