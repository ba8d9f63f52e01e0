"""PPO and Friends: MPI-distributed proximal policy optimisation, with plug-ins for all the rest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppo_and_friends.policy.trained_policy import TrainedPolicy, load_policy

__all__ = ["TrainedPolicy", "load_policy"]

__version__ = "0.1.0"

# An installed copy has its launchers inside, as ppo_and_friends.environments. In a checkout they
# stand beside this package, in environments/. Without this line `python main.py` in a checkout
# finds launchers only after an editable install: this folder shadows one in site-packages.
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "environments" / "__init__.py").is_file() and (_ROOT / "setup.py").is_file():
    __path__.append(str(_ROOT))


def __getattr__(name: str) -> Any:
    # Not imported before it is asked for: `--help` must not wait for torch.
    if name in __all__:
        from ppo_and_friends.policy import trained_policy

        return getattr(trained_policy, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
