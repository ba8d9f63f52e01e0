"""The tables of ``docs/friends.md``: hooks from the class `Friend`, friends from the catalog."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from docs.generator.docstrings import in_a_cell, summary
from docs.generator.types import value_in_words
from ppo_and_friends.friends.catalog import find_friend
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.ppo.hooks import Hooks

GROUPS = {
    "Observations": (
        "ObservationNormalizer",
        "ObservationClip",
        "ObservationHistory",
        "PreviousAction",
        "AgentIndex",
        "SplitObservations",
    ),
    "Rewards and values": (
        "RewardNormalizer",
        "RewardClip",
        "RewardScale",
        "ValueNormalizer",
        "PopArt",
        "BootstrapClip",
        "ValueErrorClip",
    ),
    "Advantages and experience": (
        "AdvantageNormalizer",
        "AdvantageRecompute",
        "SegmentLength",
        "SymmetryAugmentation",
    ),
    "Exploration": ("ICM", "RND", "CorrelatedNoise", "StdClip", "StateDependentExploration"),
    "The size of a policy update": (
        "KLEarlyStop",
        "KLPenalty",
        "KLAnchor",
        "AdaptiveLearningRate",
        "GradientClip",
    ),
    "The beginning": ("InitFrom", "BehaviourCloning", "Distillation"),
    "The environments": ("Curriculum", "DomainRandomisation"),
    "The opponents": ("SelfPlay",),
    "The run": ("HardReset", "Evaluator", "BestPolicyKeeper", "VideoRecorder"),
}
"""Where the friends of the catalog stand in the table."""


def hooks() -> dict[str, Callable[..., Any]]:
    """Every hook by name, in the order of their first calls."""
    found: dict[str, Callable[..., Any]] = {}
    for kind in (Friend, Hooks):
        for name, method in vars(kind).items():
            called = inspect.isfunction(method) and summary(method).startswith("Called ")
            if called and not name.startswith("_"):
                found.setdefault(name, method)
    return {name: method for name, method in found.items() if name != "tensors"}


def hook_table() -> str:
    """The hooks: arguments, when they are called, and how a group combines its members' answers."""
    lines = ["| hook | called | several friends |", "|---|---|---|"]
    combinations: dict[str, Callable[..., Any]] = {}
    for name, method in hooks().items():
        arguments = ", ".join(list(inspect.signature(method).parameters)[1:])
        combine = getattr(method, "combine", None)
        if combine is not None:
            combinations.setdefault(combine.__name__, combine)
        called = in_a_cell(summary(method)).removeprefix("Called ")
        how = f"`{combine.__name__}`" if combine is not None else "one by one"
        lines.append(f"| `{name}({arguments})` | {called[0].upper()}{called[1:]} | {how} |")
    meanings = (f"- `{name}`: {in_a_cell(summary(each))}" for name, each in combinations.items())
    return "\n".join([*lines, "", *meanings])


def friend_tables() -> str:
    """What each friend does, with its arguments and its source, group by group."""
    parts = []
    for title, names in GROUPS.items():
        parts += [f"### {title}\n", "| friend | what it does | arguments | source |", "|---|---|---|---|"]
        for name in names:
            kind = find_friend(name)
            link = f"[{name}](settings.md#{name.lower()})"
            parts.append(f"| {link} | {in_a_cell(summary(kind))} | {_arguments(kind)} | {kind.source} |")
        parts.append("")
    return "\n".join(parts)


def _arguments(kind: type[Friend]) -> str:
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    shown = [f"`{one.name}={value_in_words(one.default).strip('`')}`" for one in parameters]
    return ", ".join(shown) or "none"
