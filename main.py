"""Train or test an agent: ``python main.py --help``."""

import sys

from ppo_and_friends.cli import main

if __name__ == "__main__":
    sys.exit(main())
