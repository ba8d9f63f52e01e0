"""The documentation says what the code does: generated pages are up to date, and names in the text exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.generator.friends import GROUPS, hooks
from docs.generator.pages import generated, with_block
from docs.generator.types import type_in_words, value_in_words
from ppo_and_friends.friends.catalog import BUILT_IN
from ppo_and_friends.settings.experiment import PPOSettings
from ppo_and_friends.settings.overrides import apply_settings, setting_names
from ppo_and_friends.settings.registry import resolve
from tests.friends.test_group import EPOCH, SETUP, STEP

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


@pytest.mark.parametrize("path", generated(), ids=lambda path: path.name)
def test_generated_pages_are_what_the_code_gives(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == generated()[path], "run `python -m docs.generator`"


def test_a_block_is_replaced_between_its_markers() -> None:
    assert with_block("a\n<!-- x:start -->\nold\n<!-- x:end -->\nb", "x", "new") == (
        "a\n<!-- x:start -->\nnew\n<!-- x:end -->\nb"
    )
    with pytest.raises(ValueError, match="x:start"):
        with_block("no markers", "x", "new")


def test_every_setting_is_in_the_reference_with_its_default() -> None:
    text = (DOCS / "settings.md").read_text()
    rows = {line.split(" | ")[0].strip("| `"): line for line in text.splitlines() if line.startswith("| `")}
    for launcher in ("CartPole", "BreakoutPixels"):
        # Where there is no Atari game, its section is a single setting: none.
        assert set(setting_names(resolve(launcher))) - {"environment.atari"} <= set(rows)
    assert "| float ≥ 0, ≤ 1 | `0.99` |" in rows["ppo.gamma"]
    assert "| float > 0 or none | `0.5` |" in rows["ppo.max_grad_norm"]
    assert "| [schedule](#schedules) ≥ 0 | `0.0003` |" in rows["ppo.learning_rate"]
    # Defaults are written as --set takes them.
    changed = apply_settings(
        resolve("CartPole"), ["network.actor_hidden=[64,64]", "ppo.value_clip_range=none"]
    )
    assert changed.network.actor_hidden == (64, 64) and changed.ppo.value_clip_range is None


def test_types_and_values_in_words() -> None:
    assert type_in_words(int | None) == "int or none"
    assert type_in_words(tuple[str, ...]) == "list of text"
    assert value_in_words((64, 64)) == "`[64,64]`"
    assert value_in_words(None) == "`none`"
    assert value_in_words(PPOSettings().learning_rate) == "`0.0003`"


def test_every_friend_has_one_place_in_the_table() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(BUILT_IN)


def test_hooks_are_listed_in_the_order_of_their_calls() -> None:
    order = [
        *SETUP,
        "before_rollout",
        *STEP,
        "after_rollout",
        *("decode_values", "adjust_values", "after_estimation", "encode_returns", "before_update"),
        *dict.fromkeys(EPOCH),
        *("after_update", "metrics", "recordings", "before_checkpoint", "finished"),
    ]
    assert list(hooks()) == order
    outline = (DOCS / "friends.md").read_text().split("```")[1]
    places = [outline.index(name) for name in order]
    assert places == sorted(places)
