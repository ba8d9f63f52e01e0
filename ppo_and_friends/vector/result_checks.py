"""Checks of what an environment, or an agent in it, returns: shapes, dtypes. Torch isn't imported here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsFloat

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.errors import EnvironmentFault
from ppo_and_friends.vector.spaces import Leaf, leaves

Array = NDArray[Any]
Fault = Callable[[str, str], EnvironmentFault]
"""Makes the error about a key, such as ``reward``, from what is wrong with it."""


class ResultChecks:
    """Checks results before they are put into a batch.

    Casts within a kind are allowed (float64 in a float32 space, int64 in an int32 space), and so are whole
    numbers that fit the space's integer type. Other casts raise, as they could silently change values.

    Attributes:
        adapted: What was taken although it isn't as the space says; see `adapter.adaptations`.
    """

    def __init__(self, space: spaces.Space[Any], fault: Fault) -> None:
        """Check observations of a space.

        Args:
            space: As the environment declares it.
            fault: Makes the errors.
        """
        self.adapted: dict[str, None] = {}
        self._fault = fault
        self._leaves: list[Leaf] = leaves(space)
        self._simple = space if isinstance(space, spaces.Box) else None

    def observation(self, observation: Any) -> Any:
        """The observation, if it fits its space."""
        simple = self._simple
        if (
            simple is not None
            and type(observation) is np.ndarray
            and observation.dtype == simple.dtype
            and observation.shape == simple.shape
        ):
            return observation
        for leaf in self._leaves:
            part = observation
            for step in leaf.path:
                try:
                    part = part[step]
                except (KeyError, IndexError, TypeError) as error:
                    kind = type(observation).__name__
                    raise self._fault(leaf.key, f"missing from an observation of type {kind}") from error
            self._part(leaf, part)
        return observation

    def number(self, reward: SupportsFloat) -> float:
        """A reward as a number."""
        try:
            if not isinstance(reward, str | bytes | bytearray):  # which float() would read
                return float(reward)
        except OverflowError:
            raise self._fault("reward", "an integer that is too large for a float") from None
        except (TypeError, ValueError):
            pass
        raise self._fault("reward", f"{type(reward).__name__} {reward!r:.60} is not a number")

    def flag(self, key: str, value: Any) -> bool:
        """``terminated`` or ``truncated`` as a bool."""
        if isinstance(value, bool | np.bool_):
            return bool(value)
        raise self._fault(key, f"{type(value).__name__} {value!r:.60} is not a bool")

    def _part(self, leaf: Leaf, part: Any) -> None:
        space = leaf.space
        try:
            array = np.asarray(part)
        except ValueError as error:
            raise self._fault(leaf.key, f"not an array: {error}") from error
        if array.shape != space.shape:
            shape = list(space.shape or ())
            raise self._fault(leaf.key, f"shape {list(array.shape)}, but its space has {shape}")
        wanted = np.dtype(space.dtype)
        if np.can_cast(array.dtype, wanted, "same_kind"):
            return
        if wanted.kind not in "iu" or array.dtype.kind not in "iuf" or not self._fits(array, wanted):
            raise self._fault(leaf.key, f"dtype {array.dtype}, but its space has {wanted}")
        if array.dtype.kind == "f":
            self.adapted[f"{leaf.key} has whole numbers as {array.dtype}, in a space of {wanted}"] = None

    @staticmethod
    def _fits(array: Array, dtype: np.dtype[Any]) -> bool:
        limits = np.iinfo(dtype)
        if array.size and not (array.min() >= limits.min and array.max() <= limits.max):
            return False
        return array.dtype.kind != "f" or bool((array == np.rint(array)).all())
