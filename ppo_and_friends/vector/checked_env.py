"""Environments whose every result is checked: shapes, dtypes, exceptions. Torch isn't imported here."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.errors import EnvironmentFault, UsageError
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector.canonical import make_canonical_env
from ppo_and_friends.vector.codec import Encoder
from ppo_and_friends.vector.faults import fault, passing, raised_fault, where
from ppo_and_friends.vector.masks import KEY, BadMaskError, MaskReader
from ppo_and_friends.vector.result_checks import ResultChecks
from ppo_and_friends.vector.spaces import check_action_space, left_out

Array = NDArray[Any]


class CheckedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Checks what one environment returns before it is put into a batch; see `ResultChecks`.

    Attributes:
        adapted: What was taken although it isn't as the space says; see `adapter.adaptations`.
        action_mask: [M] bool, that of the last observation; None: the environment has none.
        steps: Taken so far, automatic resets among them.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], index: int, settings: EnvironmentSettings | None = None
    ) -> None:
        """Check ``env``, whose global index (over all ranks) is ``index``, and which has these settings."""
        super().__init__(env)
        self.settings = settings
        self._index, self.steps = index, 0
        self._masks: MaskReader | None = None
        self.action_mask: Array | None = None
        if settings is not None:
            self._masks = MaskReader(env, _where_masks_are(settings), settings.id)
            self.observation_space = self._masks.observation_space
            if self._masks.must_look:
                self._look_for_masks(self._masks)
            self.action_mask = self._masks.anything() if self._masks.source else None
        self._checks = ResultChecks(self.observation_space, self._fault)
        self.adapted = self._checks.adapted

    def change(self, env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
        """Go on with another environment; returns the one before.

        Raises:
            UsageError: Its spaces are others.
        """
        before = self.env
        check_alike("" if self.settings is None else self.settings.id, env, before)
        self.env = env
        if self._masks is not None:
            self._masks.change(env)
        return before

    @property
    def masked(self) -> bool:
        """Whether it says which actions are legal."""
        return self.action_mask is not None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Reset the environment and check the observation.

        Raises:
            EnvironmentFault: The environment raised, or its observation doesn't fit its space.
        """
        if seed is None:
            self.steps += 1  # an automatic reset counts as a step
        try:
            result = self.env.reset(seed=seed, options=options)
        except passing():
            raise
        except BaseException as error:
            raise self._raised("reset", error) from error
        if not isinstance(result, tuple) or len(result) != 2:
            raise self._fault("reset", "returned something other than (observation, info)")
        observation = self._checks.observation(result[0])
        if self.action_mask is not None:
            self._read_mask(observation, result[1])
        return observation, result[1]

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment and check everything it returns.

        Raises:
            EnvironmentFault: The environment raised, or what it returned doesn't fit its spaces.
        """
        self.steps += 1
        try:
            result = self.env.step(action)
        except passing():
            raise
        except BaseException as error:
            raise self._raised("step", error) from error
        if not isinstance(result, tuple) or len(result) != 5:
            raise self._fault(
                "step", "returned something other than (observation, reward, terminated, truncated, info)"
            )
        observation, reward, terminated, truncated, info = result
        checked = (
            self._checks.observation(observation),
            self._checks.number(reward),
            self._checks.flag("terminated", terminated),
            self._checks.flag("truncated", truncated),
            info,
        )
        if self._masks is not None and self.action_mask is not None:
            # Nothing is done where an episode is over, and many an environment then forbids everything.
            if checked[2] or checked[3]:
                self.action_mask = self._masks.anything()
            else:
                self._read_mask(observation, info)
        return checked

    def _look_for_masks(self, masks: MaskReader) -> None:
        """Find out by a reset whether the infos have masks; what else is wrong shows at the first reset."""
        try:
            result: Any = self.env.reset(seed=self._index)
        except passing():
            raise
        except BaseException:
            return
        if isinstance(result, tuple) and len(result) == 2:
            masks.look(result[1])

    def _read_mask(self, observation: Any, info: Any) -> None:
        assert self._masks is not None
        try:
            self.action_mask = self._masks.read(observation, info)
        except BadMaskError as error:
            raise self._fault(KEY, str(error)) from error
        except passing():
            raise
        except BaseException as error:
            raise self._raised(KEY, error) from error

    def whereabouts(self) -> str:
        """The environment and its step, for a report of what stands still."""
        return where(self._index, self.steps)

    def _fault(self, key: str, problem: str) -> EnvironmentFault:
        return fault(self._index, self.steps, key, problem)

    def _raised(self, key: str, error: BaseException) -> EnvironmentFault:
        return raised_fault(f"{where(self._index, self.steps)}, {key}:", error)


def make_checked(settings: EnvironmentSettings, index: int) -> CheckedEnv:
    """Make the training environment with a global index, whose results are checked.

    Raises:
        UsageError: It can't be created, or its spaces aren't supported.
        EnvironmentFault: Its own code raised an exception.
    """
    env = make_canonical_env(settings, training=True)
    check_action_space(env.action_space)
    masks = MaskReader(env, _where_masks_are(settings), settings.id)
    Encoder(masks.observation_space)  # raises if the space isn't supported
    return CheckedEnv(env, index, settings)


def _where_masks_are(settings: EnvironmentSettings) -> str:
    games = settings.atari is not None and settings.action_masks == "auto"  # which have none
    return "off" if games else settings.action_masks


def check_alike(id: str, env: Any, first: Any) -> None:
    """Check that two environments have the same spaces.

    Raises:
        UsageError: They differ; shows how.
    """
    for key in ("observation_space", "action_space"):
        one, other = getattr(first, key), getattr(env, key)
        if one != other:
            raise UsageError(f"{id}: the environments don't all have the same spaces: {one} and {other}.")
    if getattr(env, "masked", None) != getattr(first, "masked", None):
        raise UsageError(
            f"{id}: some of the environments have action masks and some don't: set "
            "environment.action_masks to where they are, or to off."
        )


def left_out_notice(space: spaces.Space[Any]) -> str | None:
    """A sentence about the parts of observations that the policy doesn't see; None if it sees all."""
    parts = left_out(space)
    if not parts:
        return None
    return (
        f"The policy doesn't see {', '.join(parts)}, which can't be encoded. "
        "If it matters, encode it in a wrapper (environment.wrappers)."
    )
