"""How this program was called, for messages that name a command."""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = "python main.py"
"""What starts the command line in a checkout."""


def program() -> str:
    """The words that start the command line as the user did: ``python main.py``, or ``ppo-and-friends``."""
    called = Path(sys.argv[0] if sys.argv else "")
    if called.stem == "ppo-and-friends":
        return called.stem
    if called.name == "__main__.py" and called.parent.name == "ppo_and_friends":
        return "python -m ppo_and_friends"
    return CHECKOUT
