"""Actions of nested spaces, and the mapping for any space."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.common.nested import built, parts
from ppo_and_friends.errors import UsageError
from ppo_and_friends.networks.action_mapping import ActionMapping
from ppo_and_friends.networks.joint import Joint

Array = NDArray[Any]


class JointMapping(ActionMapping):
    """Maps stored actions [B, A] to a batch of a Dict or Tuple space: dicts and tuples of arrays [B, ...].

    Attributes:
        parts: The mappings of the space's parts, in its order.
    """

    def __init__(self, space: spaces.Space[Any], *, squash: bool = False) -> None:
        """Prepare the mappings of the parts; ``squash`` is for those that are a Box.

        Raises:
            UsageError: A part isn't supported, or can't be squashed into; or there is none.
        """
        self.space = space
        self.parts = [ActionMapping(part, squash=squash) for _, part in parts(space)]
        if not self.parts:
            raise UsageError(f"Action space {space} is empty.")
        self.squash = any(part.squash for part in self.parts)
        self.distribution = Joint([part.distribution for part in self.parts])

    def to_environment(self, actions: Any) -> Any:
        """Map each part of the actions [B, A]."""
        ends = np.cumsum([part.distribution.action_size for part in self.parts])
        mapped = [
            part.to_environment(actions[:, end - part.distribution.action_size : end])
            for part, end in zip(self.parts, ends.tolist(), strict=True)
        ]
        return built(self.space, mapped)


def action_mapping(space: spaces.Space[Any], *, squash: bool = False) -> ActionMapping:
    """The mapping for an action space; for the arguments and errors, see `ActionMapping`."""
    nested = isinstance(space, spaces.Dict | spaces.Tuple)
    return (JointMapping if nested else ActionMapping)(space, squash=squash)
