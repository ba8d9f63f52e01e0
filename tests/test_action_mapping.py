"""From drawn actions to an environment's, for every kind of space and its edge cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from ppo_and_friends.errors import UsageError
from ppo_and_friends.networks.action_mapping import ActionMapping
from ppo_and_friends.networks.distributions import Bernoulli, Categorical, Gaussian, SquashedGaussian

pytestmark = pytest.mark.filterwarnings("error")
INF = np.inf


def mapped(space: spaces.Space[Any], actions: list[list[float]], squash: bool = False) -> Any:
    mapping = ActionMapping(space, squash=squash)
    integers = isinstance(mapping.distribution, Categorical | Bernoulli)
    result = mapping.to_environment(np.array(actions, np.int64 if integers else np.float32))
    assert result.shape == (len(actions), *(space.shape or ()))
    for row in result:
        assert space.contains(row if isinstance(space, spaces.Discrete) else np.asarray(row)), (row, space)
    return result.tolist()


@pytest.mark.parametrize(
    ("space", "actions", "expected"),
    [
        (spaces.Discrete(3), [[0], [2]], [0, 2]),
        (spaces.Discrete(3, start=-1), [[0], [2]], [-1, 1]),
        (spaces.Discrete(3, dtype=np.int32), [[0], [2]], [0, 2]),
        (spaces.Box(0, 1, (1,), bool), [[-1.0], [-0.1], [0.1]], [[False], [False], [True]]),
        (spaces.MultiDiscrete([3, 2]), [[2, 1], [0, 0]], [[2, 1], [0, 0]]),
        (spaces.MultiDiscrete([3, 2], start=[5, -1]), [[2, 1]], [[7, 0]]),
        (spaces.MultiDiscrete([[3, 2], [2, 4]]), [[2, 1, 0, 3]], [[[2, 1], [0, 3]]]),
        (spaces.MultiBinary(2), [[1, 0]], [[1, 0]]),
        (spaces.MultiBinary((2, 2)), [[1, 0, 0, 1]], [[[1, 0], [0, 1]]]),
        # Two bounds: -1 is the lower, 1 the upper, 0 the middle; beyond is clipped.
        (spaces.Box(-2.0, 6.0, (1,)), [[-1], [0], [1], [0.5], [3], [-9]], [[-2], [2], [6], [4], [6], [-2]]),
        (spaces.Box(-1.0, 1.0, (2,)), [[0.25, -7]], [[0.25, -1]]),
        # One bound or none: as it is, clipped at the one.
        (spaces.Box(0.0, INF, (1,)), [[-1], [0.5], [40]], [[0], [0.5], [40]]),
        (spaces.Box(-INF, 1.0, (1,)), [[-9], [4]], [[-9], [1]]),
        (spaces.Box(-INF, INF, (2,)), [[-9, 40]], [[-9, 40]]),
        (spaces.Box(np.array([0, -4], np.float32), np.array([INF, 4], np.float32)), [[3, 0.5]], [[3, 2]]),
        # The largest float32 means unbounded, too.
        (spaces.Box(-np.float32(3.4e38), np.float32(3.4e38), (1,)), [[-9]], [[-9]]),
        (spaces.Box(-2.0, 6.0, ()), [[0.0], [5.0]], [2.0, 6.0]),
        (spaces.Box(0, 4, (1,), np.int32), [[-1], [-0.4], [0.6], [1], [5]], [[0], [1], [3], [4], [4]]),
        (spaces.Box(0, 255, (1,), np.uint8), [[-2], [2], [0.004]], [[0], [255], [128]]),
        (spaces.Box(-1.0, 1.0, (1, 2), np.float64), [[0.5, -0.5]], [[[0.5, -0.5]]]),
    ],
    ids=str,
)
def test_mapping(space: spaces.Space[Any], actions: list[list[float]], expected: Any) -> None:
    np.testing.assert_allclose(mapped(space, actions), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("space", "actions", "expected"),
    [
        # tanh(0.5) = 0.46212: 2 + 4 x 0.46212
        (spaces.Box(-2.0, 6.0, (1,)), [[0], [0.5], [50], [-50]], [[2], [3.848469], [6], [-2]]),
        (spaces.Box(0, 4, (1,), np.int64), [[0.0], [9.0]], [[2], [4]]),
        (spaces.Discrete(3), [[1]], [1]),  # nothing to squash
    ],
    ids=str,
)
def test_squashing(space: spaces.Space[Any], actions: list[list[float]], expected: Any) -> None:
    np.testing.assert_allclose(mapped(space, actions, squash=True), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("space", "kind", "size"),
    [
        (spaces.Discrete(3, start=7), Categorical, 1),
        (spaces.MultiDiscrete([[3, 2], [2, 4]]), Categorical, 4),
        (spaces.MultiBinary((2, 3)), Bernoulli, 6),
        (spaces.Box(0, 1, ()), Gaussian, 1),
        (spaces.Box(0, 1, (2, 3)), Gaussian, 6),
    ],
)
def test_distributions(space: spaces.Space[Any], kind: type, size: int) -> None:
    distribution = ActionMapping(space).distribution
    assert type(distribution) is kind and distribution.action_size == size
    assert isinstance(ActionMapping(spaces.Box(0, 1), squash=True).distribution, SquashedGaussian)


@given(
    st.floats(-1e6, 1e6, width=32),
    st.floats(0.0009765625, 1e6, width=32),
    st.lists(st.floats(-100, 100, width=32), min_size=1),
    st.booleans(),
)
def test_always_within_bounds(low: float, width: float, drawn: list[float], squash: bool) -> None:
    space = spaces.Box(np.float32(low), np.float32(low + width), (1,))
    mapping = ActionMapping(space, squash=squash)
    for action in mapping.to_environment(np.array(drawn, np.float32)[:, None]):
        assert space.contains(action)


@pytest.mark.parametrize("space", [spaces.Box(0, INF, (1,)), spaces.Box(-INF, INF, (1,))])
def test_what_has_no_bounds_is_not_squashed_into(space: spaces.Box) -> None:
    with pytest.raises(UsageError, match="squash"):
        ActionMapping(space, squash=True)


@pytest.mark.parametrize(
    "space", [spaces.Tuple([spaces.Discrete(2)]), spaces.Dict({"a": spaces.Discrete(2)}), spaces.Text(3)]
)
def test_other_spaces_are_refused_by_name(space: spaces.Space[Any]) -> None:
    with pytest.raises(UsageError, match=type(space).__name__):
        ActionMapping(space)
