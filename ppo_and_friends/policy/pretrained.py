"""Locating the trained policies that are shipped with the project."""

from __future__ import annotations

from pathlib import Path

from ppo_and_friends.errors import UsageError, nearest

PACKAGE = Path(__file__).resolve().parent.parent
PLACES = (PACKAGE.parent / "results" / "policies", PACKAGE / "policies")
"""Folders that hold the shipped policies: in a checkout, and in an installed package."""


def pretrained_names(places: tuple[Path, ...] = PLACES) -> list[str]:
    """Return the names of the launchers with a shipped policy, sorted."""
    return sorted({path.parent.name for place in places for path in place.glob("*/experiment.json")})


def pretrained_folder(name: str, places: tuple[Path, ...] = PLACES) -> Path:
    """Return the folder of a launcher's shipped policy, which has the layout of a run's folder.

    Args:
        name: Name of the launcher.
        places: Folders to search, in this order.

    Raises:
        UsageError: No policy is shipped for this launcher; suggests launchers with similar names.
    """
    for place in places:
        if (place / name / "experiment.json").is_file():
            return place / name
    there = pretrained_names(places)
    near = f"Similar names: {', '.join(nearest(name, there))}." if there else "None are installed."
    raise UsageError(f"No trained policy for {name} is shipped with the project. {near}")
