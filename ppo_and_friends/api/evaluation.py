"""``evaluate``: a policy's returns on whole episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import gymnasium

from ppo_and_friends.distributed.randomness import Purpose, Randomness
from ppo_and_friends.errors import UsageError
from ppo_and_friends.evaluation.evaluate import Evaluation, OnProgress, RenderMode
from ppo_and_friends.evaluation.evaluate import evaluate as play
from ppo_and_friends.evaluation.opponents import Match, RandomPolicy
from ppo_and_friends.evaluation.player import Array, batch_of_one
from ppo_and_friends.evaluation.video import Choice
from ppo_and_friends.policy.trained_policies import TrainedPolicies
from ppo_and_friends.policy.trained_policy import TrainedPolicy
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.settings.registry import resolve
from ppo_and_friends.vector.canonical import make_canonical_env

SEED = 1
"""The ``random_seed`` assumed for a policy that has no experiment."""


class _LastObservation(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Stores the latest raw observation."""

    observation: Any = None

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        self.observation, info = self.env.reset(**arguments)
        return self.observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.observation, *rest = self.env.step(action)
        return self.observation, *rest


class _FunctionPolicy:
    """Adapts a function of raw observations to the interface of a policy."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        self._env: _LastObservation | None = None

    def make_env(self, settings: EnvironmentSettings, mode: RenderMode) -> gymnasium.Env[Any, Any]:
        self._env = _LastObservation(make_canonical_env(settings, mode))
        return self._env

    def reset(self, seed: int | None, rows: Array | None = None) -> None:
        return

    def act(self, observations: Mapping[str, Array], deterministic: bool) -> Any:
        assert self._env is not None
        return batch_of_one(self._function(self._env.observation))


def evaluate(
    policy: TrainedPolicy | Callable[[Any], Any],
    episodes: int = 20,
    *,
    environment: EnvironmentSettings | str | None = None,
    opponent: TrainedPolicy | Literal["random"] | None = None,
    deterministic: bool = True,
    seed: int | None = None,
    render: bool = False,
    video: str | Path | None = None,
    video_episode: Choice = "best",
    video_steps: int | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Run whole episodes of a policy on the environment as Gymnasium defines it.

    Rewards are the environment's own, unclipped and unnormalised. Under ``mpirun`` call it on one rank.

    Args:
        policy: From ``run.policy()`` or ``load_policy``; or any function that maps an observation, as
            the environment returns it, to an action.
        episodes: How many.
        environment: Settings, a launcher's name or an environment id. None: the environment that the
            policy was trained on.
        opponent: Of a game: one of the agents, in episode after episode another one, is the policy, and all
            others are this policy, or act at ``random``. The returns are the policy's own; ``infos["won"]``
            is its win rate, with draws as half. Two policies play the same game again and again unless they
            sample. None: all agents are the policy.
        deterministic: Take the most probable actions; False: sample them. Functions ignore it.
        seed: Episode i is reset with ``seed + i``. None: derived from the experiment's ``random_seed``,
            as on the command line.
        render: Open a window.
        video: Where to record, ``.gif`` or ``.mp4``; None: nowhere.
        video_episode: Which episode to keep, by its return, or all of them. One of several is played once
            more to be recorded, since rendering may take long.
        video_steps: Steps of an episode that are recorded, the first ones; None: two minutes at most.
        on_progress: Called a few times a second with the share that is done, and what is being done.

    Returns:
        Scores and lengths of the episodes, with ``mean`` and ``std``.

    Raises:
        UsageError: No environment is given, there is no display for a window, or ``episodes`` isn't positive.
        EnvironmentFault: The environment raised, or returned something unusable.
    """
    trained = policy if isinstance(policy, TrainedPolicy | TrainedPolicies) else None
    if environment is None:
        if trained is None:
            raise UsageError('A function needs an environment: evaluate(policy, environment="CartPole-v1").')
        environment = trained.experiment.environment
    elif isinstance(environment, str):
        environment = resolve(environment).environment
    if seed is None:
        of = SEED if trained is None else trained.experiment.random_seed
        seed = Randomness(of).integer(Purpose.EVALUATION)
    if trained is None and environment.api == "petting_zoo":
        raise UsageError("evaluate() plays several agents with a trained policy only, not with a function.")
    function = None if trained is not None else _FunctionPolicy(policy)
    acting: Any
    if opponent is not None:
        acting = _match(trained, opponent)
    else:
        acting = trained.agent.policy() if isinstance(trained, TrainedPolicy) else function or trained
    return play(
        acting,
        environment,
        episodes=episodes,
        seed=seed,
        deterministic=deterministic,
        render="human" if render else "record" if video is not None else None,
        timesteps=0 if trained is None else trained.timesteps,
        video_path=None if video is None else Path(video),
        video=video_episode,
        video_steps=video_steps,
        on_progress=on_progress,
        make_env=None if function is None else function.make_env,
    )


def _match(
    policy: TrainedPolicy | TrainedPolicies | None, opponent: TrainedPolicy | Literal["random"]
) -> Match:
    """A policy that agents share, against another.

    Raises:
        UsageError: They aren't of one game.
    """
    if not isinstance(policy, TrainedPolicy) or len(policy.agents) < 2:
        raise UsageError("An opponent is for games of several agents that share a policy.")
    space = policy.action_space
    for player in (policy, opponent):
        if isinstance(player, TrainedPolicy) and player.agent.network.groups_agents:
            raise UsageError("Agents that decide together can't play against each other.")
    if not isinstance(opponent, TrainedPolicy):
        return Match(policy.agents, policy.agent.policy, partial(RandomPolicy, space))
    if opponent.agents != policy.agents or opponent.action_space != space:
        raise UsageError("The opponent is a policy of another game: its agents or actions are others.")
    return Match(policy.agents, policy.agent.policy, opponent.agent.policy)
