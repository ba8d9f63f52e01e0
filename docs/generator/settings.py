"""``docs/settings.md``: every setting that ``--set`` takes, and every friend's arguments."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, Field, fields
from typing import Any, get_args, get_type_hints

from docs.generator.docstrings import argument_docstrings, field_docstrings, in_a_cell, summary
from docs.generator.types import type_in_words, value_in_words
from ppo_and_friends.friends.catalog import BUILT_IN, OF_AGENTS, STARTING_POINTS, find_friend
from ppo_and_friends.settings.experiment import AtariSettings, EnvironmentSettings, Experiment
from ppo_and_friends.settings.other_names import PEERS
from ppo_and_friends.settings.overrides import setting_names
from ppo_and_friends.settings.schedules import Schedule

HEAD = """# Settings

<!-- Written from the code by `python -m docs.generator`: edit the docstrings instead. -->

Every setting of an experiment. Defaults apply unless the launcher sets another value. Change settings with

    python main.py -e CartPole --set ppo.clip_range=0.1 --set network.actor_hidden=128,128
    python main.py -e CartPole --set environment.arguments.sutton_barto_reward=true
    python main.py -e CartPole --with KLEarlyStop:target=0.02 --set friends.KLEarlyStop.decide=epoch

Types and ranges are checked before anything starts. Lists are written with commas (`64,64`); `none` clears a
setting that may be empty. `experiment.json` in a run's folder records all values of the run.
"""
TABLE = "| name | type and range | default | meaning |\n|---|---|---|---|"

EVERYTHING = Experiment(name="", environment=EnvironmentSettings(id="", atari=AtariSettings()))
"""An experiment that has every kind of setting."""


def settings_page() -> str:
    """The whole page."""
    names = setting_names(EVERYTHING)
    sections = dict.fromkeys(["", *(name.rpartition(".")[0] for name in names)])
    parts = [HEAD, *(_section(prefix, set(names)) for prefix in sections), _schedules()]
    parts += ["## Friends' arguments\n", *map(_friend, (*BUILT_IN, *STARTING_POINTS, *OF_AGENTS)), _peers()]
    return "\n".join(parts)


def _section(prefix: str, names: set[str]) -> str:
    """A table of the settings whose names begin with a prefix."""
    kind = _owner(prefix)
    hints, texts = get_type_hints(kind, include_extras=True), field_docstrings(kind)
    lines = [f"## {f'`{prefix}`' if prefix else 'The run'}\n", f"{in_a_cell(summary(kind))}\n", TABLE]
    for field in fields(kind):
        name = f"{prefix}.{field.name}" if prefix else field.name
        if name in names:
            meaning = in_a_cell(texts[field.name])
            lines.append(f"| `{name}` | {type_in_words(hints[field.name])} | {_default(field)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _owner(prefix: str) -> Any:
    """The dataclass whose fields are the settings with this prefix."""
    kind: Any = Experiment
    for part in prefix.split(".") if prefix else ():
        hint = get_type_hints(kind)[part]
        kind = next((one for one in get_args(hint) if one is not type(None)), hint)
    return kind


def _default(field: Field[Any]) -> str:
    if field.default is not MISSING:
        return value_in_words(field.default)
    if field.default_factory is not MISSING:
        return value_in_words(field.default_factory())
    return "set by the launcher"


def _schedules() -> str:
    """What a value that changes over the run looks like."""
    text = (inspect.getdoc(Schedule) or "").replace("``", "`")
    fields_of = field_docstrings(Schedule)
    lines = [f"- `{name}`: {in_a_cell(text)}" for name, text in fields_of.items()]
    return "\n".join(["## Schedules\n", text, "\nIn Python, a `Schedule` has these fields:\n", *lines, ""])


def _friend(name: str) -> str:
    kind = find_friend(name)
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    lines = [f"### {name}\n", f"{in_a_cell(summary(kind))} Source: {kind.source}.\n"]
    if not parameters:
        return "\n".join([*lines, "No arguments.\n"])
    hints, texts = get_type_hints(kind.__init__, include_extras=True), argument_docstrings(kind.__init__)
    lines.append(TABLE.replace("type and range", "type"))
    for parameter in parameters:
        default = "required" if parameter.default is parameter.empty else value_in_words(parameter.default)
        meaning = in_a_cell(texts[parameter.name])
        lines.append(
            f"| `{parameter.name}` | {type_in_words(hints[parameter.name])} | {default} | {meaning} |"
        )
    return "\n".join(lines) + "\n"


def _peers() -> str:
    """Other libraries' names."""
    lines = [
        "## Names in other libraries\n",
        "What Stable-Baselines3, CleanRL, RLlib and others call these settings. `--set` answers each "
        "with the name here. Units can differ: a rollout is counted over all environments here.\n",
        "| elsewhere | here |\n|---|---|",
    ]
    return "\n".join([*lines, *(f"| `{theirs}` | `{ours}` |" for theirs, ours in sorted(PEERS.items())), ""])
