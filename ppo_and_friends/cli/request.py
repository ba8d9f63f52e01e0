"""What the command line asks for, on its way to training and testing."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ppo_and_friends.common.program import program
from ppo_and_friends.settings.experiment import Experiment


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    experiment: Experiment
    """The launcher's settings with the command line's changes."""

    folder: Path
    """The run's folder."""

    command_line: tuple[str, ...] = ()
    """For the record."""

    name: str = ""
    """What the user called the environment; empty: the launcher's name."""

    change: Callable[[Experiment], Experiment] = lambda experiment: experiment
    """Makes the command line's changes; a test makes them to the saved settings."""

    trained: Path | None = None
    """Where the policy to test is, if it isn't the run's own."""

    def command(self) -> str:
        """The command that names this run again."""
        name, folder = self.experiment.name, self.folder
        parts = [f"{program()} -e {shlex.quote(self.name or name)}"]
        beside = folder.name.startswith(f"{name}-")  # as --run_name calls them
        if folder.name != name and not beside:
            parts.append(f"--run_folder {shlex.quote(str(folder))}")
        elif folder.parent != Path("saved_states"):
            parts.append(f"--state_path {shlex.quote(str(folder.parent))}")
        if beside:
            parts.append(f"--run_name {shlex.quote(folder.name.removeprefix(f'{name}-'))}")
        return " ".join(parts)
