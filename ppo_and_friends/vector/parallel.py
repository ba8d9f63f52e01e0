"""Environments with several agents, as PettingZoo's parallel API has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import gymnasium
from gymnasium import spaces

from ppo_and_friends.common.objects import one_line
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.settings.own import environment_maker
from ppo_and_friends.vector.canonical import apply_wrapper, make_canonical_env
from ppo_and_friends.vector.closing import close_env
from ppo_and_friends.vector.creation import called
from ppo_and_friends.vector.masks import KEY, seen_space
from ppo_and_friends.vector.turns import in_turns

ByAgent = Mapping[str, Any]


class ParallelEnv(Protocol):
    """What is used of PettingZoo's ``ParallelEnv``; no base class is needed."""

    possible_agents: list[str]
    """Every agent that may ever appear."""

    agents: list[str]
    """Those that are there now."""

    metadata: dict[str, Any]
    observation_space: Callable[[str], spaces.Space[Any]]
    action_space: Callable[[str], spaces.Space[Any]]

    def reset(self, *, seed: int | None = None) -> tuple[ByAgent, ByAgent]:
        """Observations and infos of the agents that are there."""

    def step(self, actions: ByAgent) -> tuple[ByAgent, ByAgent, ByAgent, ByAgent, ByAgent]:
        """Observations, rewards, terminations, truncations and infos."""

    def render(self) -> Any:
        """A picture."""

    def close(self) -> None:
        """Release everything."""


def make_parallel_env(settings: EnvironmentSettings, render_mode: str | None = None) -> ParallelEnv:
    """Create one environment with several agents, with its wrappers.

    Args:
        settings: The environment. Those whose agents act in turns (AEC) are converted by PettingZoo.
        render_mode: PettingZoo's render mode; None disables rendering.

    Raises:
        UsageError: There is no such environment, it has a single agent, or a setting doesn't go with it.
        EnvironmentFault: Its own code raised an exception.
    """
    for name, value, default in (
        ("atari", settings.atari, None),
        ("action_repeat", settings.action_repeat, 1),
    ):
        if value != default:
            raise UsageError(
                f"environment.{name} is for environments with a single agent, not {settings.id}."
            )
    env = _bare(settings, render_mode)
    if not has_several_agents(env):
        raise UsageError(
            f"{settings.id} isn't an environment of PettingZoo's: it has no possible_agents. "
            "Use --set environment.api=gymnasium."
        )
    env = _parallel(env, settings.id)
    for wrapper in settings.wrappers:
        env = apply_wrapper(env, wrapper)
    made: ParallelEnv = env
    return made


def makes_several_agents(settings: EnvironmentSettings) -> bool:
    """Whether these settings' environment has several agents; it is made to see.

    Raises:
        UsageError: It can't be made.
        EnvironmentFault: Its own code raised an exception.
    """
    if settings.factory is None and environment_maker(settings.id) is None:
        return False  # a registered id: Gymnasium's environments have a single agent
    maker = settings.factory or environment_maker(settings.id)
    if isinstance(maker, type) and issubclass(maker, gymnasium.Env):
        return False
    env = _bare(settings, None)
    close_env(env, settings.id)
    return has_several_agents(env)


def has_several_agents(env: Any) -> bool:
    """Whether an object is an environment of PettingZoo's."""
    return not isinstance(env, gymnasium.Env) and hasattr(env, "possible_agents")


def agent_names(env: ParallelEnv, id: str) -> tuple[str, ...]:
    """All agents of an environment, in its own order.

    Raises:
        UsageError: There are none, or one twice.
    """
    names = tuple(map(str, env.possible_agents))
    if not names or len(set(names)) < len(names):
        raise UsageError(f"{id}: possible_agents is {list(names)}, but must name each agent, once.")
    return names


def common_spaces(
    env: ParallelEnv, id: str, agents: tuple[str, ...], masks: str
) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
    """The observation space, without masks, and the action space that some agents have in common.

    Args:
        env: The environment.
        id: Its id, for messages.
        agents: Which.
        masks: The setting ``environment.action_masks``.

    Raises:
        UsageError: They differ between agents; names two of them.
    """
    first, *others = agents
    for what in ("observation", "action"):
        space = getattr(env, f"{what}_space")
        for other in others:
            if space(other) != space(first):
                raise UsageError(
                    f"{id}: {first} and {other} have different {what} spaces, {space(first)} and "
                    f"{space(other)}, and can't share a policy.\n"
                    "Give them their own by agents.policies, or pad them with a wrapper, such as SuperSuit's "
                    f"pad_{what}{'s' if what == 'observation' else '_space'}_v0."
                )
    return without_mask(env.observation_space(first), masks), env.action_space(first)


def without_mask(space: spaces.Space[Any], asked: str) -> spaces.Space[Any]:
    """An agent's observation space without its mask; for ``asked`` see ``environment.action_masks``.

    Raises:
        UsageError: Nothing but the mask is in it.
    """
    if asked not in ("auto", "observation") or not isinstance(space, spaces.Dict) or KEY not in space.spaces:
        return space
    kept = {key: part for key, part in space.spaces.items() if key != KEY}
    if not kept:
        raise UsageError(f"the observation holds nothing but {KEY!r}.")
    return spaces.Dict(kept)


def spaces_and_agents(
    settings: EnvironmentSettings, *, shared: bool = True
) -> tuple[spaces.Space[Any], spaces.Space[Any], tuple[str, ...]]:
    """Observation space without masks, action space, and agents of an environment, which is made for it.

    There are no agents if it has a single one, by Gymnasium's rules.

    Args:
        settings: The environment.
        shared: Whether all agents must have the same spaces; False: the first one's are returned.

    Raises:
        UsageError: It can't be made, or its agents' spaces differ.
        EnvironmentFault: Its own code raised an exception.
    """
    if settings.api == "gymnasium":
        env = make_canonical_env(settings)
        try:
            return seen_space(env, settings.action_masks), env.action_space, ()
        finally:
            close_env(env, settings.id)
    several = make_parallel_env(settings)
    try:
        names = agent_names(several, settings.id)
        alike = names if shared else names[:1]
        return *common_spaces(several, settings.id, alike, settings.action_masks), names
    finally:
        close_env(several, settings.id)


def _bare(settings: EnvironmentSettings, render_mode: str | None) -> Any:
    arguments = dict(settings.arguments)
    if render_mode is not None:
        arguments["render_mode"] = render_mode
    if settings.factory is not None:
        return called(settings.factory, f"{settings.id}: its factory", arguments)
    maker = environment_maker(settings.id)
    if maker is None:
        from ppo_and_friends.settings.registry import unknown_environment

        raise unknown_environment(settings.id)
    return called(maker, settings.id, arguments)


def _parallel(env: Any, id: str) -> Any:
    """An environment whose agents act in turns (AEC), by PettingZoo's conversion.

    Where all act before anything happens (``is_parallelizable``) they act at the same time; else one acts in
    each step, which the infos name, and the others wait.
    """
    if not hasattr(env, "agent_selection") and not hasattr(env, "agent_iter"):
        return env
    try:
        from pettingzoo.utils.conversions import aec_to_parallel
    except ImportError as error:
        raise UsageError(
            f"{id}: its agents act in turns; to convert it, pip install 'ppo-and-friends[petting]'."
        ) from error
    try:
        if not getattr(env, "metadata", {}).get("is_parallelizable", False):
            return in_turns(env)
        return aec_to_parallel(env)
    except (AssertionError, AttributeError) as error:
        raise UsageError(
            f"{id}: its agents act in turns, and PettingZoo can't convert it: {one_line(error)}"
        ) from error
