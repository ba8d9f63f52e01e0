"""Which actions are legal: where environments say so, and in which form it is handed on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.common.nested import parts, pick
from ppo_and_friends.errors import UsageError

Array = NDArray[Any]
Source = Literal["observation", "method", "info"]

KEY = "action_mask"
"""The name of masks among observations, and their key in a Dict observation and in an info."""

METHOD = "action_masks"
"""The method of environments written for sb3-contrib."""


class BadMaskError(ValueError):
    """A mask that can't be used; the message says why."""


def choices_of(space: spaces.Space[Any]) -> tuple[int, ...]:
    """How many alternatives each choice of an action has; () if there is none, as for a Box.

    A MultiBinary's choices are between 0 and 1. In nested spaces those of the parts follow each other.
    """
    found: list[int] = []
    for _, part in parts(space):
        if isinstance(part, spaces.Discrete):
            found.append(int(part.n))
        elif isinstance(part, spaces.MultiDiscrete):
            found += part.nvec.reshape(-1).tolist()
        elif isinstance(part, spaces.MultiBinary):
            found += [2] * int(np.prod(part.shape))
    return tuple(found)


def mask_space(space: spaces.Space[Any]) -> spaces.Box:
    """Of the masks [M] for an action space: M is the sum of its choices' alternatives."""
    return spaces.Box(0, 1, (sum(choices_of(space)),), np.bool_)  # type: ignore[arg-type]


def dead_end(masks: Array, choices: tuple[int, ...], over: Array | None = None) -> tuple[int, str] | None:
    """Find a row in which nothing may be done.

    Args:
        masks: [B, M] bool.
        choices: As `choices_of` returns them.
        over: [B] bool, rows where it may be so, since nothing is done there; None: nowhere.

    Returns:
        The row and what is wrong with it; None if all is well.
    """
    legal = legal_choices(masks, choices)
    if legal.all():
        return None
    bad = ~legal if over is None else ~legal & ~over[:, None]
    if not bad.any():
        return None
    row, choice = (int(i) for i in np.argwhere(bad)[0])
    return row, "no action is legal" + (f" for choice {choice} of {len(choices)}" * (len(choices) > 1))


def legal_choices(masks: Array, choices: tuple[int, ...]) -> Array:
    """[B, number of choices] bool: where masks [B, M] leave an alternative."""
    if len(choices) == 1:
        return np.asarray(masks.any(axis=1, keepdims=True))
    starts = np.cumsum((0, *choices[:-1]))
    found: Array = np.logical_or.reduceat(masks, starts, axis=1)
    return found


def as_mask(value: Any, space: spaces.Space[Any]) -> Array:
    """A mask as an environment has it, as [M] bool.

    Args:
        value: Bools, or integers 0 and 1: [M]; or [choices, alternatives], if all choices have as many; or an
            array for each choice; or for a nested action space such values, nested likewise.
        space: Of the actions.

    Raises:
        BadMaskError: It has another shape or dtype.
    """
    array = value if isinstance(value, np.ndarray) else _joined(value, space)
    choices = choices_of(space)
    size = sum(choices)
    even = len(set(choices)) == 1
    if array.shape != (size,) and not (even and array.shape == (len(choices), choices[0])):
        raise BadMaskError(f"shape {list(array.shape)}, not [{size}], one for each action")
    if array.dtype == np.bool_:
        return array.reshape(-1)
    if array.dtype.kind not in "iu":
        raise BadMaskError(f"dtype {array.dtype}, not bool or integers 0 and 1")
    mask: Array = array == 1
    if np.count_nonzero(array) != np.count_nonzero(mask):
        raise BadMaskError(f"{array[~mask & (array != 0)].flat[0]} is neither 0 nor 1")
    return mask.reshape(-1)


def _joined(value: Any, space: spaces.Space[Any]) -> Array:
    """A list, or arrays for the parts of an action, as one array."""
    if value is None:
        raise BadMaskError("is missing")
    try:
        if isinstance(space, spaces.Dict | spaces.Tuple) and isinstance(value, Mapping | tuple):
            own = [as_mask(pick(value, path), part) for path, part in parts(space) if choices_of(part)]
            return np.concatenate(own)
        if isinstance(value, tuple | list) and np.ndim(value[0]) == 1:
            return np.concatenate([np.asarray(each) for each in value])
        return np.asarray(value)
    except BadMaskError:
        raise
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BadMaskError(f"not an array: {type(error).__name__}: {error}") from error


class MaskReader:
    """Takes the masks from where an environment has them.

    Attributes:
        source: Where that is; None: it has none, as far as is known. An info shows it only in `look`.
        observation_space: The environment's, without the mask.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], asked: str, name: str = "") -> None:
        """Look at what is known before the first reset.

        Args:
            env: One environment.
            asked: The setting ``environment.action_masks``.
            name: Of the environment, for messages.

        Raises:
            UsageError: They aren't where the setting says, or leave no observation.
        """
        self.source: Source | None = None
        self._space, self._asked, self._name = env.action_space, asked, name
        self._size = sum(choices_of(env.action_space))
        self.observation_space = env.observation_space
        self._may_be = asked != "off" and self._size > 0
        if asked not in ("off", "auto") and not self._may_be:
            raise UsageError(f"environment.action_masks={asked}: {self._space} has no choices to mask.")
        if not self._may_be:
            return
        declared = env.observation_space
        if asked in ("auto", "observation") and isinstance(declared, spaces.Dict) and KEY in declared.spaces:
            self.source = "observation"
            self.observation_space = self._without(declared)
        elif asked in ("auto", "method") and env.has_wrapper_attr(METHOD):
            self.source = "method"
            self._method = env.get_wrapper_attr(METHOD)
        elif asked in ("observation", "method"):
            what = f"no key {KEY!r} in the observation" if asked == "observation" else f"no method {METHOD}()"
            raise UsageError(f"environment.action_masks={asked}: {name} has {what}.")

    @property
    def must_look(self) -> bool:
        """Whether a reset's info has to say if there are masks."""
        return self._may_be and self.source is None

    def look(self, info: Any) -> None:
        """See whether masks are in a reset's info.

        Raises:
            UsageError: They aren't, but the setting says so.
        """
        if not self.must_look:
            return
        if isinstance(info, Mapping) and KEY in info:
            self.source = "info"
        elif self._asked == "info":
            raise UsageError(
                f"environment.action_masks=info: {self._name}'s reset returns an info without {KEY!r}."
            )

    def change(self, env: gymnasium.Env[Any, Any]) -> None:
        """Read another environment's from now on, which has the same spaces."""
        if self.source == "method":
            self._method = env.get_wrapper_attr(METHOD)

    def read(self, observation: Any, info: Any) -> Array:
        """The mask [M] that belongs to an observation which was just returned.

        Raises:
            BadMaskError: It is missing, or has the wrong shape or dtype.
        """
        try:
            if self.source == "method":
                value = self._method()
            else:
                value = (observation if self.source == "observation" else info)[KEY]
        except (KeyError, TypeError):
            raise BadMaskError(f"is missing from the {self.source}") from None
        if type(value) is np.ndarray and value.shape == (self._size,):
            # As `as_mask` does in the end. Bytes 0 and 1 are bools already, if there are no others.
            if value.dtype == np.bool_:
                return value
            if value.dtype == np.int8 and not value.tobytes().strip(b"\0\1"):
                return value.view(np.bool_)
        return as_mask(value, self._space)

    def anything(self) -> Array:
        """A mask [M] that forbids nothing, for an observation that isn't acted on."""
        return np.ones(self._size, np.bool_)

    def _without(self, declared: spaces.Dict) -> spaces.Space[Any]:
        kept = OrderedDict((key, part) for key, part in declared.spaces.items() if key != KEY)
        if not kept:
            raise UsageError(f"{self._name}: the observation holds nothing but {KEY!r}.")
        return spaces.Dict(kept)


def seen_space(env: gymnasium.Env[Any, Any], asked: str) -> spaces.Space[Any]:
    """An environment's observation space without masks; for the arguments, see `MaskReader`."""
    return MaskReader(env, asked).observation_space
