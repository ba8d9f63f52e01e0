"""PPO and Friends: MPI-distributed proximal policy optimisation, with plug-ins for all the rest."""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"

# An installed copy has its launchers inside, as ppo_and_friends.environments. In a checkout they
# stand beside this package, in environments/. Without this line `python main.py` in a checkout
# finds launchers only after an editable install: this folder shadows one in site-packages.
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "environments" / "__init__.py").is_file() and (_ROOT / "setup.py").is_file():
    __path__.append(str(_ROOT))
