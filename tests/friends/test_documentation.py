"""docs/friends.md says what the code does."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from ppo_and_friends.friends.catalog import BUILT_IN, find_friend
from tests.friends.test_group import EPOCH, SETUP, STEP, hooks

TEXT = (Path(__file__).parents[2] / "docs" / "friends.md").read_text()


def test_every_friend_is_there_with_its_arguments_and_source() -> None:
    for name in BUILT_IN:
        kind = find_friend(name)
        (row,) = re.findall(rf"^\| {name} \|.*$", TEXT, flags=re.MULTILINE)
        assert (inspect.getdoc(kind) or "").split("\n")[0] in row, name
        assert kind.source in row, name
        parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
        for parameter in parameters:
            default = parameter.default
            shown = f"[{','.join(map(str, default))}]" if isinstance(default, tuple) else str(default)
            assert f"`{parameter.name}={shown}`" in row, f"{name}.{parameter.name}"
        assert row.count("=") >= len(parameters)


def test_every_hook_is_there_in_the_order_of_the_calls() -> None:
    diagram = TEXT.split("```")[1]
    places = {hook: match.start() for hook in hooks() if (match := re.search(rf"\b{hook}\(", diagram))}
    assert set(places) == set(hooks())
    order = [
        *SETUP,
        "before_rollout",
        *STEP,
        "after_rollout",
        *("decode_values", "adjust_values", "after_estimation", "encode_returns", "before_update"),
        *dict.fromkeys(EPOCH),
        *("after_update", "metrics", "recordings", "before_checkpoint", "finished"),
    ]
    assert sorted(places, key=places.__getitem__) == order
