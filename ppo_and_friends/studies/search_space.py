"""The settings that tuning tries: a space that suits PPO, or one from a file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.schedules import Schedule

Kind = Literal["choice", "float", "log", "int"]

CHOICES: Mapping[str, tuple[Any, ...]] = {
    "ppo.gamma": (0.9, 0.95, 0.98, 0.99, 0.995, 0.999),
    "ppo.gae_lambda": (0.8, 0.9, 0.95, 0.98, 1.0),
    "ppo.rollout_timesteps": (512, 1024, 2048, 4096, 8192),
    "ppo.minibatch_size": (64, 128, 256, 512, 1024),
    "ppo.epochs": (3, 5, 10, 20),
    "ppo.clip_range": (0.1, 0.2, 0.3, 0.4),
    "ppo.max_grad_norm": (0.3, 0.5, 1.0, 2.0),
    "environment.num_envs": (4, 8, 16, 32),
    "network.actor_hidden,network.critic_hidden": ((64, 64), (128, 128), (256, 256)),
    "network.activation": ("tanh", "relu"),
}
"""Values around those in use (RL Zoo's search space; arXiv:2006.05990)."""

OF_TRIALS = ("random_seed", "num_timesteps")
"""Settings that can't be tuned, since tuning sets them."""

LEARNING_RATES = (1e-5, 1e-2)
ENTROPY_COEFFICIENTS = (1e-7, 0.1)


@dataclass(frozen=True)
class Dimension:
    """One setting, or several that get the same value, and what to try."""

    name: str
    """Dotted name; several are separated by commas."""

    kind: Kind
    """``choice``, or a range: ``float``, ``log`` (equal factors are equally likely), ``int``."""

    values: tuple[Any, ...]
    """Of a choice all values, of a range its two ends."""

    text: str = ""
    """What the setting becomes, with ``{}`` for the value, such as ``{}:0``; empty: the value itself."""

    def changes(self, value: Any) -> dict[str, Any]:
        """The settings for a value."""
        made = self.text.format(f"{value:.4g}" if isinstance(value, float) else value) if self.text else value
        return dict.fromkeys(self.name.split(","), made)

    def ask(self, trial: Any) -> Any:
        """A value, chosen by an Optuna trial."""
        if self.kind == "choice":
            # Optuna stores choices as plain data; lists are told apart by their text.
            return json.loads(
                trial.suggest_categorical(self.name, [json.dumps(each) for each in self.values])
            )
        if self.kind == "int":
            return int(trial.suggest_int(self.name, *self.values))
        return float(trial.suggest_float(self.name, *self.values, log=self.kind == "log"))

    def parameter(self, value: Any) -> Any:
        """A value as Optuna stores it."""
        return json.dumps(value) if self.kind == "choice" else value

    def described(self) -> Any:
        """As a file has it."""
        if self.kind == "choice" and not self.text:
            return [list(each) if isinstance(each, tuple) else each for each in self.values]
        return {self.kind: list(self.values), **({"text": self.text} if self.text else {})}


def default_space(experiment: Experiment) -> tuple[Dimension, ...]:
    """A space that suits PPO, with the experiment's own settings in it."""
    image = experiment.environment.atari is not None or experiment.network.encoder == "nature_cnn"
    rate = experiment.ppo.learning_rate
    dimensions = [
        _range("ppo.learning_rate", LEARNING_RATES, rate.start, _way(rate)),
        _range("ppo.entropy_coefficient", ENTROPY_COEFFICIENTS, experiment.ppo.entropy_coefficient.start),
    ]
    for name, values in CHOICES.items():
        if image and name.startswith("network."):
            continue
        own = own_value(experiment, name)
        text = _way(experiment.ppo.clip_range) if name == "ppo.clip_range" else ""
        dimensions.append(Dimension(name, "choice", values if own in values else (*values, own), text))
    return tuple(dimensions)


def _way(schedule: Schedule) -> str:
    """How a value becomes a schedule: down to 0, if the experiment's own goes there."""
    return "{}:0" if schedule.end == 0.0 else ""


def _range(name: str, ends: tuple[float, float], own: float, text: str = "") -> Dimension:
    low, high = ends
    return Dimension(name, "log", (min(low, own) if own > 0 else low, max(high, own)), text)


def own_value(experiment: Experiment, name: str) -> Any:
    """The experiment's own value of a dimension; of a schedule its start."""
    value: Any = experiment
    for part in name.split(",")[0].split("."):
        value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
    return value.start if isinstance(value, Schedule) else value


def own_parameters(experiment: Experiment, space: Sequence[Dimension]) -> dict[str, Any]:
    """The experiment's own settings as a first trial; what lies outside the space is left to the sampler."""
    found = {}
    for dimension in space:
        own = own_value(experiment, dimension.name)
        if dimension.kind == "choice":
            inside = own in [tuple(each) if isinstance(each, list) else each for each in dimension.values]
        else:
            inside = isinstance(own, int | float) and dimension.values[0] <= own <= dimension.values[1]
        if inside:
            found[dimension.name] = dimension.parameter(own)
    return found


def load_space(path: Path) -> tuple[Dimension, ...]:
    """Read a space from a YAML file.

    Args:
        path: Maps names to a list of values, or to ``{float|log|int: [low, high], text: "{}:0"}``.

    Raises:
        UsageError: It can't be read, or isn't written like this.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict) or not content:
        raise UsageError(f"{path} holds no search space: write name: [value, value] on each line.")
    return tuple(_dimension(str(name), entry, path) for name, entry in content.items())


def _dimension(name: str, entry: Any, path: Path) -> Dimension:
    name = ",".join(part.strip() for part in name.split(","))
    if isinstance(entry, list) and entry:
        return Dimension(name, "choice", tuple(entry))
    wrong = UsageError(
        f"{path}: {name}: write a list of values, or a range such as {{log: [1e-5, 1e-2]}} (float, log, int)."
    )
    if not isinstance(entry, dict):
        raise wrong
    text = str(entry.get("text", ""))
    kinds = [key for key in entry if key != "text"]
    if (
        len(kinds) != 1
        or kinds[0] not in ("float", "log", "int", "choice")
        or ("text" in entry and not _takes_a_value(text))
    ):
        raise wrong
    kind: Any = kinds[0]
    values = entry[kind]
    if not isinstance(values, list) or not values:
        raise wrong
    if kind == "choice":
        return Dimension(name, "choice", tuple(values), text)
    try:  # YAML reads 1e-5 as a text
        low, high = (int(each) if kind == "int" else float(each) for each in values)
    except (TypeError, ValueError, OverflowError):
        raise wrong from None
    if not -math.inf < low < high < math.inf or (kind == "log" and low <= 0):
        raise wrong
    return Dimension(name, kind, (low, high), text)


def _takes_a_value(text: str) -> bool:
    try:
        return "{}" in text and bool(text.format(1.0))
    except (ValueError, LookupError, AttributeError):
        return False


def space_text(space: Sequence[Dimension]) -> str:
    """A space as a file has it."""
    return "\n".join(f"{each.name}: {json.dumps(each.described())}" for each in space)


def check_space(experiment: Experiment, space: Sequence[Dimension]) -> None:
    """Try every end and every choice on the experiment.

    Raises:
        UsageError: A name or a value that the experiment doesn't accept.
    """
    for dimension in space:
        if dimension.name in OF_TRIALS:
            raise UsageError(f"{dimension.name}: each trial has its own; leave it out of the search space.")
        for value in dimension.values:
            experiment.with_changes(dimension.changes(value))
