"""Command line entry point; ``python main.py --help`` lists the options."""

import sys

if __name__ == "__main__":
    try:
        from ppo_and_friends.cli.main import main

        sys.exit(main())
    except KeyboardInterrupt:  # before training has started, so there is nothing to save
        sys.exit(130)
