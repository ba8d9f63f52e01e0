"""``python -m ppo_and_friends.cli`` is the same as ``python main.py``."""

import sys

from ppo_and_friends.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
