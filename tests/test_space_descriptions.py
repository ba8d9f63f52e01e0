from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.vector.space_descriptions import describe, restore

INF = np.inf
SPACES: list[spaces.Space[Any]] = [
    spaces.Discrete(3),
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete([3, 2]),
    spaces.MultiDiscrete([[3, 2], [4, 5]], start=[[1, 0], [0, -2]]),
    spaces.MultiBinary(3),
    spaces.MultiBinary((2, 3)),
    spaces.Box(-1.0, 1.0, (2,), np.float32),
    spaces.Box(-0.1, 0.3, (), np.float64),
    spaces.Box(np.array([-INF, 0.1, -2.0]), np.array([1.0, INF, 3.0]), dtype=np.float64),
    spaces.Box(-INF, INF, (2, 2), np.float32),
    spaces.Box(0, 255, (4, 84, 84), np.uint8),
    spaces.Box(np.array([-3, 0]), np.array([3, 7]), dtype=np.int32),
    spaces.Box(np.finfo(np.float32).min, np.finfo(np.float32).max, (2,), np.float32),
    spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Tuple([spaces.MultiBinary(2), spaces.Box(0, 1)])}),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_comes_back_through_json(space: spaces.Space[Any]) -> None:
    text = json.dumps(describe(space), allow_nan=False)
    assert restore(json.loads(text)) == space
    assert describe(restore(json.loads(text))) == json.loads(text)


def test_parts_keep_their_order() -> None:
    space = spaces.Dict(OrderedDict([("b", spaces.Discrete(2)), ("a", spaces.Discrete(3))]))
    text = json.dumps(describe(space), sort_keys=True)
    assert list(restore(json.loads(text)).spaces) == ["b", "a"]  # type: ignore[attr-defined]


def test_different_spaces_differ() -> None:
    texts = [json.dumps(describe(space)) for space in SPACES]
    assert len(set(texts)) == len(texts)


def test_a_uniform_bound_is_short() -> None:
    assert describe(spaces.Box(0, 255, (84, 84), np.uint8))["high"] == 255


def test_of_an_unknown_kind_the_name_is_kept() -> None:
    description = describe(spaces.Graph(spaces.Box(-1, 1, (2,)), None))
    assert description == {"kind": "LeftOut", "of": "Graph"}
    assert describe(restore(description)) == description
