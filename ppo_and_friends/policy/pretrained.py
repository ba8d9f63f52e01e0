"""Where the trained policies are that come with the project."""

from __future__ import annotations

from pathlib import Path

from ppo_and_friends.errors import UsageError, nearest

PACKAGE = Path(__file__).resolve().parent.parent
PLACES = (PACKAGE.parent / "results" / "policies", PACKAGE / "policies")
"""In a checkout, and in an installed package."""


def pretrained_names(places: tuple[Path, ...] = PLACES) -> list[str]:
    """Launchers that a trained policy comes with, sorted."""
    return sorted({path.parent.name for place in places for path in place.glob("*/experiment.json")})


def pretrained_folder(name: str, places: tuple[Path, ...] = PLACES) -> Path:
    """The folder of a launcher's trained policy, laid out like a run's.

    Args:
        name: The launcher's.
        places: Where to look, first to last.

    Raises:
        UsageError: None comes with the project; names the nearest that do.
    """
    for place in places:
        if (place / name / "experiment.json").is_file():
            return place / name
    there = pretrained_names(places)
    near = f"There is one for {', '.join(nearest(name, there))}." if there else "There are none here."
    raise UsageError(f"No trained policy for {name} comes with the project. {near}")
