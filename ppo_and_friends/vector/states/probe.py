"""Whether an environment's states can be saved exactly: tried out before a run relies on it."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
from gymnasium import spaces

from ppo_and_friends.errors import EnvironmentFault, UsageError
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector.checked_env import CheckedEnv, make_checked
from ppo_and_friends.vector.closing import close_env
from ppo_and_friends.vector.masks import choices_of
from ppo_and_friends.vector.output import Output
from ppo_and_friends.vector.states.capture import captured
from ppo_and_friends.vector.states.environment import restore, saved
from ppo_and_friends.vector.states.errors import NoStateError
from ppo_and_friends.vector.states.kinds import HIDDEN

BEFORE, AFTER = 20, 40
"""Steps before a state is saved, and steps that are compared."""

ADVICE = (
    "Give the environment get_state() and set_state(state) (docs/distribution.md), or leave out exact_resume."
)


def check_environment(settings: EnvironmentSettings) -> None:
    """Save a state, set it in another environment, and compare what follows.

    Args:
        settings: The environment, with a single agent.

    Raises:
        UsageError: It can't be saved, or something else follows; says what.
        EnvironmentFault: The environment's own code raised an exception when it was made.
    """
    envs: list[CheckedEnv] = []
    with warnings.catch_warnings(), Output():
        warnings.simplefilter("ignore")  # the run gives them again
        try:
            for _ in range(2):
                envs.append(make_checked(settings, 0))
            _try(settings.id, *envs)
        except NoStateError as error:
            raise refusal(settings.id, error) from None
        except EnvironmentFault:
            return  # the run says it better
        finally:
            for env in envs:
                close_env(env, settings.id)


def refusal(id: str, error: NoStateError) -> UsageError:
    """The error for an environment whose state can't be saved."""
    hidden = any(name in str(error) for name in HIDDEN)
    advice = "No engine can save Box2D's world: leave out exact_resume." if hidden else ADVICE
    return UsageError(f"exact_resume: the state of {id} can't be saved: {error}.\n{advice}")


def _try(id: str, one: CheckedEnv, other: CheckedEnv) -> None:
    one.reset(seed=1)
    other.reset(seed=2)
    space = copy.deepcopy(one.action_space)
    space.seed(3)
    actions: list[Any] = []
    over = False
    for _ in range(BEFORE):
        over = _step(one, _action(space, one), over)[1]
    state = saved(one, None, over)
    expected = []
    now = over
    for _ in range(AFTER):
        actions.append(_action(space, one))
        seen, now = _step(one, copy.deepcopy(actions[-1]), now)
        expected.append(seen)
    for env, name in ((other, "another environment"), (one, "the same environment, later")):
        now = restore(env, None, state)
        for step, (action, wanted) in enumerate(zip(actions, expected, strict=True), 1):
            seen, now = _step(env, copy.deepcopy(action), now)
            if seen != wanted:
                raise UsageError(
                    f"exact_resume: {id} can't be resumed exactly: when its state was set in {name}, step "
                    f"{step} gave something else. It depends on what isn't in it, such as a module's "
                    f"variable, numpy.random or the time.\n{ADVICE}"
                )


def _step(env: CheckedEnv, action: Any, over: bool) -> tuple[tuple[Any, ...], bool]:
    """What a step, or the reset in its place, gave, to the bit; whether the episode is over."""
    if over:
        observation, reward, ends = env.reset()[0], 0.0, (False, False)
    else:
        observation, reward, *flags, _ = env.step(action)
        ends = (flags[0], flags[1])
    mask = None if env.action_mask is None else env.action_mask.tobytes()
    return (captured(observation), np.float64(reward).tobytes(), ends, mask), any(ends)


def _action(space: spaces.Space[Any], env: CheckedEnv) -> Any:
    """A random action, a legal one where the environment says which are."""
    if env.action_mask is None:
        return space.sample()
    mask = env.action_mask.astype(np.int8)
    if isinstance(space, spaces.Discrete):
        return space.sample(mask=mask)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return space.sample(mask=tuple(np.split(mask, np.cumsum(choices_of(space))[:-1])))
    return space.sample()
