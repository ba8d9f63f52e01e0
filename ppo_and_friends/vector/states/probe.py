"""Whether an environment's states can be saved exactly: tried out before a run relies on it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from ppo_and_friends.errors import EnvironmentFault, UsageError
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector.checked_env import make_checked
from ppo_and_friends.vector.closing import close_env
from ppo_and_friends.vector.faults import where
from ppo_and_friends.vector.masks import KEY, choices_of
from ppo_and_friends.vector.output import Output
from ppo_and_friends.vector.parallel import agent_names, make_parallel_env
from ppo_and_friends.vector.states.capture import captured
from ppo_and_friends.vector.states.environment import divided, joined, restore, saved
from ppo_and_friends.vector.states.errors import NoStateError
from ppo_and_friends.vector.states.restore import restored
from ppo_and_friends.vector.team import Team

BEFORE, AFTER = 20, 40
"""Steps before a state is saved, and steps that are compared, with a reset after as many."""

RESET = None
"""In the place of an action: resets amid an episode, since its end may be far."""

ADVICE = (
    "Give the environment get_state() and set_state(state) (docs/distribution.md), or leave out exact_resume."
)


class Player(Protocol):
    """An environment that is played at random."""

    env: Any

    def reset(self, seed: int) -> None:
        """Begin the first episode."""

    def action(self) -> Any:
        """A random action, a legal one where the environment says which are."""

    def step(self, action: Any) -> bytes:
        """What a step gave, or a reset: where it is asked for, or an episode is over."""

    def save(self) -> bytes:
        """The state."""

    def restore(self, state: bytes) -> None:
        """Set a state."""


def check_environment(settings: EnvironmentSettings) -> None:
    """Save a state, set it in another environment, and compare what follows.

    Args:
        settings: The environment.

    Raises:
        UsageError: It can't be saved, or something else follows; says what.
        EnvironmentFault: The environment's own code raised an exception when it was made.
    """
    players: list[Player] = []
    with warnings.catch_warnings(), Output():
        warnings.simplefilter("ignore")  # the run gives them again
        try:
            for _ in range(2):
                players.append(_Single(settings) if settings.api == "gymnasium" else _Several(settings))
            _compare(settings.id, *players)
        except NoStateError as error:
            hidden = "of Box2D" in str(error)
            advice = "No engine can save Box2D's world: leave out exact_resume." if hidden else ADVICE
            raise UsageError(
                f"exact_resume: the state of {settings.id} can't be saved: {error}.\n{advice}"
            ) from None
        except EnvironmentFault:
            return  # the run says it better
        finally:
            for player in players:
                close_env(player.env, settings.id)


def _compare(id: str, one: Player, other: Player) -> None:
    one.reset(1)
    other.reset(2)
    for _ in range(BEFORE):
        one.step(one.action())
    state = one.save()
    actions, expected = [], []
    for step in range(AFTER):
        actions.append(RESET if step == BEFORE else one.action())
        expected.append(one.step(copy.deepcopy(actions[-1])))
    for player, name in ((other, "another environment"), (one, "the same environment, later")):
        player.restore(state)
        for step, (action, wanted) in enumerate(zip(actions, expected, strict=True), 1):
            if player.step(copy.deepcopy(action)) != wanted:
                raise UsageError(
                    f"exact_resume: {id} can't be resumed exactly: when its state was set in {name}, step "
                    f"{step} gave something else. It depends on what isn't in it, such as a module's "
                    f"variable, numpy.random or the time.\n{ADVICE}"
                )


class _Single:
    """An environment with a single agent."""

    def __init__(self, settings: EnvironmentSettings) -> None:
        self.env = make_checked(settings, 0)
        self._space, self._over = _seeded(self.env.action_space), False

    def reset(self, seed: int) -> None:
        self.env.reset(seed=seed)

    def action(self) -> Any:
        return _sample(self._space, self.env.action_mask)

    def step(self, action: Any) -> bytes:
        if self._over or action is RESET:
            observation, reward, ends = self.env.reset()[0], 0.0, [False, False]
        else:
            observation, reward, *ends, _ = self.env.step(action)
        self._over = any(ends)
        return captured([observation, reward, ends, self.env.action_mask])

    def save(self) -> bytes:
        return saved(self.env, None, self._over)

    def restore(self, state: bytes) -> None:
        self._over = restore(self.env, None, state)


class _Several:
    """An environment with several agents."""

    def __init__(self, settings: EnvironmentSettings) -> None:
        self.env: Any = make_parallel_env(settings)
        names = agent_names(self.env, settings.id)
        self._team = Team(
            self.env,
            names,
            lambda step: where(0, step),
            settings.max_episode_steps,
            settings.action_masks,
        )
        self._spaces = {name: _seeded(self.env.action_space(name)) for name in names}
        self._seen: Mapping[str, Any] = {}

    def reset(self, seed: int) -> None:
        self._seen = self._team.reset(seed)

    def action(self) -> Any:
        return {name: _sample(space, self._mask(name)) for name, space in self._spaces.items()}

    def _mask(self, agent: str) -> Any:
        for place in (self._seen.get(agent), self._team.infos.get(agent)):
            if isinstance(place, Mapping) and KEY in place and np.any(place[KEY]):
                return np.asarray(place[KEY])
        return None

    def step(self, action: Any) -> bytes:
        if self._team.over or action is RESET:
            self._seen = self._team.reset()
            return captured([dict(self._seen), self._team.present])
        step = self._team.step(action)
        self._seen = step.observations
        return captured([step.observations, step.rewards, step.terminated, step.truncated, step.present])

    def save(self) -> bytes:
        return joined(self._team.remembered(), self.env)

    def restore(self, state: bytes) -> None:
        remembered, of_env = divided(state)
        self._team.recall(remembered)
        restored(of_env, self.env)


def _seeded(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """A copy that samples the same in every run."""
    space = copy.deepcopy(space)
    space.seed(3)
    return space


def _sample(space: spaces.Space[Any], mask: Any) -> Any:
    if mask is None:
        return space.sample()
    mask = np.asarray(mask).astype(np.int8)
    if isinstance(space, spaces.Discrete):
        return space.sample(mask=mask)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return space.sample(mask=tuple(np.split(mask, np.cumsum(choices_of(space))[:-1])))
    return space.sample()
