"""A friend that makes every episode's environment a little different."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.ppo.hooks import Episode
from ppo_and_friends.vector.protocol import Task

KINDS = ("attributes", "scales", "options", "arguments")

Ranges = Mapping[str, tuple[Any, ...]]


class DomainRandomisation(Friend):
    """Draw what each training episode's environment is like, so that the policy works in all of them.

    A pair of numbers is a range, of which any number is as likely; of other lists one of the values is drawn.
    The draws follow from the run's seed, the environment and the episode, on any number of ranks. Evaluations
    are of the environment as it is.
    """

    source = "arXiv:1703.06907"

    def __init__(
        self,
        attributes: Ranges | None = None,
        scales: Ranges | None = None,
        options: Ranges | None = None,
        arguments: Ranges | None = None,
        log: bool = False,
    ) -> None:
        """Choose what is drawn, and from where.

        Args:
            attributes: Of ``env.unwrapped``, by dotted name: ``gravity`` or ``model.opt.timestep``.
            scales: Factors for attributes, arrays among them (``model.body_mass``), by dotted name.
            options: For ``reset(options=...)``.
            arguments: For ``gymnasium.make``; environments are made anew where they change.
            log: Draw the logarithm of what is in a range, which must be above 0.
        """
        super().__init__()
        named = zip(KINDS, (attributes, scales, options, arguments), strict=True)
        self.ranges = [
            (kind, name, tuple(each)) for kind, many in named for name, each in (many or {}).items()
        ]
        self.log = log
        if not self.ranges:
            raise UsageError(f"DomainRandomisation draws nothing: give it {', '.join(KINDS)}.")
        for kind, name, each in self.ranges:
            self._check(name, each)
            if kind == "scales" and not all(_is_number(one) for one in each):
                raise UsageError(f"DomainRandomisation: scales: {name}={list(each)} must be numbers.")

    def _check(self, name: str, values: tuple[Any, ...]) -> None:
        if not values:
            raise UsageError(f"DomainRandomisation: {name} has no values.")
        if _is_range(values):
            low, high = values
            if not (math.isfinite(low) and math.isfinite(high) and low <= high) or (self.log and low <= 0.0):
                positive = " above 0" if self.log else ""
                raise UsageError(
                    f"DomainRandomisation: {name}={list(values)} must be two finite numbers{positive}, "
                    "the lower first."
                )

    def choose_task(self, task: Task, episode: Episode) -> Task:
        """Draw this episode's."""
        generator = self.generator(episode.environment, episode.since, episode.number)
        drawn: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        for kind, name, values in self.ranges:
            drawn[kind][name] = self._draw(generator, values)
        return task.but(Task(**drawn))

    def _draw(self, generator: np.random.Generator, values: tuple[Any, ...]) -> Any:
        if not _is_range(values):
            return values[int(generator.integers(len(values)))]
        low, high = (float(each) for each in values)
        if not self.log:
            return float(generator.uniform(low, high))
        return float(np.exp(generator.uniform(np.log(low), np.log(high))))


def _is_range(values: tuple[Any, ...]) -> bool:
    return len(values) == 2 and all(_is_number(each) for each in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
