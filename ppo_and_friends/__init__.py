"""PPO and Friends: MPI-distributed proximal policy optimisation, with plug-ins for all the rest."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppo_and_friends.api.evaluation import evaluate
    from ppo_and_friends.api.run import Interrupted, Run
    from ppo_and_friends.api.training import train
    from ppo_and_friends.evaluation.evaluate import Evaluation
    from ppo_and_friends.policy.load import load_policy
    from ppo_and_friends.policy.trained_policy import TrainedPolicy
    from ppo_and_friends.settings.experiment import (
        EnvironmentSettings,
        Experiment,
        NetworkSettings,
        PPOSettings,
        friend,
    )
    from ppo_and_friends.settings.registry import launcher_experiment

__all__ = [
    "EnvironmentSettings",
    "Evaluation",
    "Experiment",
    "Interrupted",
    "NetworkSettings",
    "PPOSettings",
    "Run",
    "TrainedPolicy",
    "evaluate",
    "friend",
    "launcher_experiment",
    "load_policy",
    "train",
]

__version__ = "0.1.0"

# An installed copy has its launchers inside, as ppo_and_friends.environments. In a checkout they
# stand beside this package, in environments/. Without this line `python main.py` in a checkout
# finds launchers only after an editable install: this folder shadows one in site-packages.
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "environments" / "__init__.py").is_file() and (_ROOT / "setup.py").is_file():
    __path__.append(str(_ROOT))


_PLACES = {
    "EnvironmentSettings": "settings.experiment",
    "Evaluation": "evaluation.evaluate",
    "Experiment": "settings.experiment",
    "Interrupted": "api.run",
    "NetworkSettings": "settings.experiment",
    "PPOSettings": "settings.experiment",
    "Run": "api.run",
    "TrainedPolicy": "policy.trained_policy",
    "evaluate": "api.evaluation",
    "friend": "settings.experiment",
    "launcher_experiment": "settings.registry",
    "load_policy": "policy.load",
    "train": "api.training",
}


def __getattr__(name: str) -> Any:
    # Not imported before it is asked for: `--help` must not wait for torch.
    if name in _PLACES:
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
