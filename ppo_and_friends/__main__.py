"""``python -m ppo_and_friends`` is the same as ``python main.py``."""

import sys

if __name__ == "__main__":
    try:
        from ppo_and_friends.cli.main import main

        sys.exit(main())
    except KeyboardInterrupt:  # before training has started, so there is nothing to save
        sys.exit(130)
