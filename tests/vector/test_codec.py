from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import given, settings
from hypothesis import strategies as st

from ppo_and_friends.errors import UsageError
from ppo_and_friends.vector.codec import BadObservationError, Encoder
from ppo_and_friends.vector.space_descriptions import describe, restore
from ppo_and_friends.vector.spaces import check_action_space, encoded_space, left_out

shapes = st.sampled_from([(), (1,), (3,), (2, 3), (2, 1, 2)])
floats = st.builds(lambda s, d: spaces.Box(-2, 3, s, d), shapes, st.sampled_from([np.float32, np.float64]))
half = st.builds(lambda s: spaces.Box(0, np.inf, s, np.float32), shapes)
integers = st.builds(
    lambda s, d: spaces.Box(0, 9, s, d), shapes, st.sampled_from([np.int64, np.int8, np.uint8, np.int32])
)
discrete = st.builds(lambda n, s: spaces.Discrete(n, start=s), st.integers(1, 6), st.integers(-3, 3))


@st.composite
def multi_discrete(draw: st.DrawFn) -> Any:
    shape = draw(st.sampled_from([(1,), (3,), (2, 2)]))
    size = int(np.prod(shape))
    nvec = draw(st.lists(st.integers(1, 5), min_size=size, max_size=size))
    start = draw(st.lists(st.integers(-2, 2), min_size=size, max_size=size))
    return spaces.MultiDiscrete(np.reshape(nvec, shape), start=np.reshape(start, shape))


multi_binary = st.sampled_from([(3,), (2, 2)]).map(spaces.MultiBinary)
leaf_spaces = st.one_of(floats, half, integers, discrete, multi_discrete(), multi_binary)
any_space = st.recursive(
    leaf_spaces,
    lambda parts: (
        st.lists(parts, min_size=1, max_size=3).map(lambda p: spaces.Tuple(tuple(p)))
        | st.dictionaries(st.sampled_from("zabc"), parts, min_size=1, max_size=3).map(spaces.Dict)
    ),
    max_leaves=5,
)


def batch_of(space: Any, samples: list[Any]) -> Any:
    return concatenate(space, samples, create_empty_array(space, n=len(samples)))


@settings(max_examples=150, deadline=None, database=None)
@given(any_space, st.integers(0, 2**31), st.integers(1, 4))
def test_rows_are_gymnasiums_flatten(space: Any, seed: int, count: int) -> None:
    space.seed(seed)
    samples = [space.sample() for _ in range(count)]
    encoder = Encoder(space)
    encoded = encoder(batch_of(space, samples))
    assert encoded.shape == (count, *encoder.space.shape)
    assert encoded.dtype == encoder.space.dtype
    for row, sample in zip(encoded, samples, strict=True):
        np.testing.assert_allclose(row, spaces.flatten(space, sample), rtol=1e-6)


@settings(max_examples=50, deadline=None, database=None)
@given(any_space)
def test_float64_is_kept_and_nothing_else_is_widened(space: Any) -> None:
    def has_float64(part: Any) -> bool:
        if isinstance(part, spaces.Dict):
            return any(map(has_float64, part.spaces.values()))
        if isinstance(part, spaces.Tuple):
            return any(map(has_float64, part.spaces))
        return isinstance(part, spaces.Box) and part.dtype == np.float64

    assert encoded_space(space).dtype == (np.float64 if has_float64(space) else np.float32)


@pytest.mark.parametrize(
    ("shape", "encoded"),
    [
        ((84, 84, 3), (84, 84, 3)),
        ((4, 84, 84), (4, 84, 84)),
        ((64, 48), (1, 64, 48)),
        ((4, 84, 84, 3), (12, 84, 84)),
        ((4, 3, 84, 84), (12, 84, 84)),
        ((128,), (128,)),
        ((4, 128), (512,)),
    ],
)
def test_bytes_stay_bytes(shape: tuple[int, ...], encoded: tuple[int, ...]) -> None:
    space = spaces.Box(0, 255, shape, np.uint8)
    assert encoded_space(space) == spaces.Box(0, 255, encoded, np.uint8)
    image = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    result = Encoder(space)(image)
    assert result.dtype == np.uint8 and result.shape == (2, *encoded)
    if shape == (4, 84, 84, 3):  # channel c of frame f is plane 3 f + c
        np.testing.assert_array_equal(result[1, 3 * 2 + 1], image[1, 2, :, :, 1])
    else:
        np.testing.assert_array_equal(result.reshape(-1), image.reshape(-1))


def test_small_or_scaled_bytes_are_numbers() -> None:
    assert encoded_space(spaces.Box(0, 255, (7, 7, 3), np.uint8)).dtype == np.float32
    assert encoded_space(spaces.Box(0, 10, (5,), np.uint8)).dtype == np.float32


def test_nothing_is_copied_without_need() -> None:
    batch = np.zeros((2, 3), np.float32)
    assert Encoder(spaces.Box(-1, 1, (3,), np.float32))(batch) is batch


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(5),
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Graph(spaces.Box(-1, 1, (2,)), None),
        spaces.OneOf([spaces.Discrete(2), spaces.Discrete(3)]),
        spaces.Dict({"a": spaces.Text(2), "b": spaces.Text(3)}),
        spaces.Box(-1, 1, (0, 2)),
        spaces.Dict({}),
        spaces.Tuple(()),
    ],
    ids=lambda space: type(space).__name__,
)
def test_unsupported_observations_are_refused_by_name(space: Any) -> None:
    with pytest.raises(UsageError, match=r"Text|Sequence|Graph|OneOf|Box|Dict|Tuple"):
        encoded_space(space)


def test_the_refused_part_is_named() -> None:
    with pytest.raises(UsageError, match=r'observation\["b"\]\[0\] space Text'):
        encoded_space(spaces.Dict({"b": spaces.Tuple((spaces.Text(3),))}))


def test_strange_boxes_are_refused() -> None:
    box = spaces.Box(-1, 1, (2,), np.float32)
    for dtype in (np.complex64, object):
        box.dtype = np.dtype(dtype)
        with pytest.raises(UsageError, match="only real numbers"):
            encoded_space(box)
        with pytest.raises(UsageError, match="only real numbers"):
            check_action_space(box)


def test_action_spaces() -> None:
    for space in (
        spaces.Box(-1, 1, (2,)),
        spaces.Discrete(3, start=-1),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(2),
        spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Tuple((spaces.Box(-1, 1, (2,)),))}),
    ):
        check_action_space(space)
    refused: list[Any] = [
        spaces.Dict({}),
        spaces.Tuple((spaces.Discrete(2), spaces.Sequence(spaces.Discrete(2)))),
        spaces.Text(3),
    ]
    for space in refused:
        with pytest.raises(UsageError, match=r"Dict|Sequence|Text"):
            check_action_space(space)


def test_a_category_outside_its_space_is_found() -> None:
    space = spaces.Dict({"kind": spaces.Discrete(3, start=1), "x": spaces.Box(-1, 1, (2,))})
    batch = {"kind": np.array([1, 3, 4]), "x": np.zeros((3, 2))}
    with pytest.raises(BadObservationError, match="4 is outside Discrete") as raised:
        Encoder(space)(batch)
    assert (raised.value.row, raised.value.key) == (2, 'observation["kind"]')


def test_components_have_names() -> None:
    space = spaces.Dict(
        {"a": spaces.Box(-1, 1, (2, 2)), "b": spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, ())))}
    )
    names = [Encoder(space).component((i,)) for i in range(8)]
    assert names[2:5] == ['observation["a"][1][0]', 'observation["a"][1][1]', 'observation["b"][0]']
    assert names[7] == 'observation["b"][1]'


def test_parts_that_cant_be_encoded_are_left_out_if_others_can() -> None:
    space = spaces.Tuple(
        [spaces.Text(3), spaces.Dict(b=spaces.Discrete(2), a=spaces.Graph(spaces.Box(0, 1), None))]
    )
    assert left_out(space) == ["observation[0] (Text)", 'observation[1]["a"] (Graph)']
    encode = Encoder(space)
    np.testing.assert_array_equal(encode((None, {"a": None, "b": np.array([1, 0])})), [[0, 1], [1, 0]])
    again = restore(json.loads(json.dumps(describe(space))))
    assert left_out(again) == ["observation[0] (LeftOut)", 'observation[1]["a"] (LeftOut)']
    assert describe(again) == describe(space)


def test_one_hot_has_a_limit() -> None:
    assert Encoder(spaces.Discrete(2**16)).space.shape == (2**16,)
    for space in (spaces.Discrete(10**6), spaces.Dict(x=spaces.MultiDiscrete([2**16, 2]))):
        with pytest.raises(UsageError, match=r"one-hot encoded in [\d,]+ numbers.* GiB") as refused:
            Encoder(space)
        assert len(str(refused.value).splitlines()) == 2
