"""Which friends there are, and how one is made from its name and arguments."""

from __future__ import annotations

import inspect
import math
from functools import cache
from typing import Any, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from ppo_and_friends.common.plugins import find_part, installed
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.settings.experiment import FriendSpec

BUILT_IN = {
    "ObservationNormalizer": "ppo_and_friends.friends.observation_normalizer",
    "RewardNormalizer": "ppo_and_friends.friends.normalizers",
    "AdvantageNormalizer": "ppo_and_friends.friends.normalizers",
    "ObservationClip": "ppo_and_friends.friends.clipping",
    "RewardClip": "ppo_and_friends.friends.clipping",
    "KLEarlyStop": "ppo_and_friends.friends.kl",
    "AdaptiveLearningRate": "ppo_and_friends.friends.kl",
    "RewardScale": "ppo_and_friends.friends.rewards",
    "AdvantageRecompute": "ppo_and_friends.friends.recompute",
    "HardReset": "ppo_and_friends.friends.resets",
    "SegmentLength": "ppo_and_friends.friends.resets",
    "CorrelatedNoise": "ppo_and_friends.friends.exploration",
    "StateDependentExploration": "ppo_and_friends.friends.state_dependent_exploration",
    "BootstrapClip": "ppo_and_friends.friends.limits",
    "ValueErrorClip": "ppo_and_friends.friends.limits",
    "GradientClip": "ppo_and_friends.friends.limits",
    "SplitObservations": "ppo_and_friends.friends.split_observations",
    "Evaluator": "ppo_and_friends.friends.evaluator",
    "BestPolicyKeeper": "ppo_and_friends.friends.evaluator",
    "StdClip": "ppo_and_friends.friends.std_clip",
    "KLAnchor": "ppo_and_friends.friends.kl_anchor",
    "KLPenalty": "ppo_and_friends.friends.kl_penalty",
    "ObservationHistory": "ppo_and_friends.friends.history",
    "PreviousAction": "ppo_and_friends.friends.history",
    "ValueNormalizer": "ppo_and_friends.friends.value_scale",
    "PopArt": "ppo_and_friends.friends.value_scale",
    "AgentIndex": "ppo_and_friends.friends.agent_index",
    "ICM": "ppo_and_friends.friends.icm",
    "RND": "ppo_and_friends.friends.rnd",
    "SymmetryAugmentation": "ppo_and_friends.friends.symmetry",
    "Curriculum": "ppo_and_friends.friends.curriculum",
    "DomainRandomisation": "ppo_and_friends.friends.domain_randomisation",
    "VideoRecorder": "ppo_and_friends.friends.video_recorder",
}
"""Name to module of the friends that come with the project."""

STARTING_POINTS = {
    "InitFrom": "ppo_and_friends.friends.init_from",
    "Distillation": "ppo_and_friends.friends.distillation",
    "BehaviourCloning": "ppo_and_friends.friends.behaviour_cloning",
}
"""Friends that begin with something on disk, so they do not run on default arguments."""

OF_AGENTS = {"SelfPlay": "ppo_and_friends.friends.self_play"}
"""Friends that need several agents."""

FORMER = {
    "SoftReset": "environments go on where they were unless HardReset starts them afresh",
    "LearningRateAnnealing": "--set ppo.learning_rate=1e-3:0 is a schedule",
    "ClipAnnealing": "--set ppo.clip_range=0.2:0 is a schedule",
    "EntropyAnnealing": "--set ppo.entropy_coefficient=0.01:0 is a schedule",
    "DeviationAnnealing": "--with StdClip:limit=1:0.1 is what it is called now",
}
"""Friends of earlier versions, and what does the same now."""


def known_friends() -> list[str]:
    """Names of all registered friends."""
    return [*BUILT_IN, *STARTING_POINTS, *OF_AGENTS, *(point.name for point in installed("friend"))]


def find_friend(name: str) -> type[Friend]:
    """The class of a friend.

    Args:
        name: A registered name, ``module:Class`` or ``path/to/file.py:Class``.

    Raises:
        UsageError: There is no such friend.
    """
    if name in FORMER:
        raise UsageError(f"There is no friend {name!r} any more: {FORMER[name]}.")
    known = name.partition(":")[0]
    if known != name and known in known_friends():
        raise UsageError(f"friend {name!r}: its arguments are written as {known}:name=value,name=value.")
    return _checked(find_part(name, "friend", BUILT_IN | STARTING_POINTS | OF_AGENTS), name)


def _checked(kind: Any, name: str) -> type[Friend]:
    if not (isinstance(kind, type) and issubclass(kind, Friend)):
        raise UsageError(f"{name!r} is not a friend: it must be a class derived from Friend.")
    return kind


@cache
def _argument_types(kind: type[Friend]) -> dict[str, Any]:
    hints = get_type_hints(kind.__init__, include_extras=True)
    parameters = list(inspect.signature(kind.__init__).parameters)[1:]
    return {name: hints.get(name, Any) for name in parameters}


def make_friend(spec: FriendSpec) -> Friend:
    """Make a friend, its arguments checked against the class's signature and converted to its types.

    Raises:
        UsageError: No such friend, an unknown argument (those accepted are named), or a wrong value.
    """
    kind = _checked(spec.kind, spec.name) if spec.kind is not None else find_friend(spec.name)
    types = _argument_types(kind)  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for name, value in spec.arguments.items():
        if name not in types:
            accepted = ", ".join(types) or "none"
            raise UsageError(f"{kind.__name__} has no argument {name!r}. It accepts: {accepted}.")
        adapter = _adapter(types[name])
        try:
            arguments[name] = adapter.validate_python(value)
        except ValidationError as error:
            problem = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise UsageError(f"{kind.__name__}: {name}={value!r} is not right: {problem}.") from error
        if _has_nan(arguments[name]):
            # NaN would pass the comparisons by which friends check their ranges.
            raise UsageError(f"{kind.__name__}: {name}={value!r} is not a number.")
    try:
        return kind(**arguments)
    except TypeError as error:
        raise UsageError(f"{kind.__name__} can't be made: {error}.") from error


def _adapter(kind: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # a dataclass, which has a configuration of its own
        return TypeAdapter(kind)


def _has_nan(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(map(_has_nan, value))
    return isinstance(value, float) and math.isnan(value)
