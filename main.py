"""Train or test an agent: ``python main.py --help``."""

import sys

if __name__ == "__main__":
    try:
        from ppo_and_friends.cli.main import main

        sys.exit(main())
    except KeyboardInterrupt:  # so early that there is nothing to save
        sys.exit(130)
