"""Which pages, and which parts of pages, are written from the code."""

from __future__ import annotations

import re
from pathlib import Path

from docs.generator.friends import friend_tables, hook_table
from docs.generator.metrics import metrics_page
from docs.generator.settings import settings_page

DOCS = Path(__file__).parents[1]


def generated() -> dict[Path, str]:
    """What each generated page must contain, by its path."""
    friends = DOCS / "friends.md"
    text = with_block(friends.read_text(encoding="utf-8"), "hooks", hook_table())
    return {
        DOCS / "settings.md": settings_page(),
        DOCS / "metrics.md": metrics_page(),
        friends: with_block(text, "friends", friend_tables()),
    }


def with_block(text: str, name: str, content: str) -> str:
    """The text with new content between ``<!-- name:start -->`` and ``<!-- name:end -->``.

    Raises:
        ValueError: The markers aren't there exactly once.
    """
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"there must be one block {start} ... {end}")
    return pattern.sub(lambda _: f"{start}\n{content.strip()}\n{end}", text)
