"""History, previous actions and split observations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.split_observations import ImageReader, SplitEncoder, SplitObservations
from ppo_and_friends.ppo.hooks import EpisodeHistory
from ppo_and_friends.settings.experiment import NetworkSettings, friend
from tests.friends.runs import Drift, assert_same_on_any_ranks, build, drift, experiment, trained
from tests.rollouts import arrays


def history(*fresh: bool) -> EpisodeHistory:
    return EpisodeHistory(np.array(fresh))


def test_history_stacks_and_starts_again_with_an_episode() -> None:
    (member,) = build(experiment([friend("ObservationHistory", length=3)])).friends
    flow = history(True, True)
    step = np.array([[1.0, 10.0], [5.0, 50.0]])
    np.testing.assert_array_equal(member.transform(step, flow), np.tile(step, 3))
    flow.episode_starts = np.array([False, False])
    np.testing.assert_array_equal(member.transform(step + 1, flow)[0], [1, 10, 1, 10, 2, 11])
    flow.episode_starts = np.array([False, True])
    last = member.transform(step + 2, flow)
    np.testing.assert_array_equal(last[0], [1, 10, 2, 11, 3, 12])
    np.testing.assert_array_equal(last[1], [7, 52, 7, 52, 7, 52])
    np.testing.assert_array_equal(member.transform(step, history(True, True)), np.tile(step, 3))


def test_history_in_a_rollout_is_what_was_seen_before() -> None:
    trainer = build(experiment([friend("ObservationHistory", length=2)], precision="float64"))
    for _ in range(2):
        rollout = arrays(trainer.collect())
        seen = rollout.observations.reshape(17, 5, 2, 3)
        newest, older = seen[:, :, 1], seen[:, :, 0]
        begins = np.zeros((17, 5), bool)
        begins[1:] = ~rollout.active  # the row after a reset row begins an episode
        for t in range(1, 17):
            expected = np.where(begins[t][:, None], newest[t], newest[t - 1])
            np.testing.assert_array_equal(older[t], expected)


@pytest.mark.parametrize(
    ("space", "actions", "appended"),
    [
        (spaces.Discrete(3, start=5), [[2], [0]], [[0, 0, 1], [1, 0, 0]]),
        (spaces.MultiBinary(2), [[1, 0], [1, 1]], [[1, 0], [1, 1]]),
        (spaces.Box(-4.0, 4.0, (1,)), [[0.5], [-3.0]], [[0.5], [-1.0]]),
    ],
)
def test_previous_action_is_appended(space: Any, actions: Any, appended: Any) -> None:
    (member,) = build(experiment([friend("PreviousAction")], drift(space))).friends
    observations = np.ones((2, 3), np.float32)
    size = len(appended[0])
    flow = history(True, True)
    np.testing.assert_array_equal(member.transform(observations, flow)[:, 3:], np.zeros((2, size)))
    flow.episode_starts, flow.last_actions = np.array([False, False]), np.array(actions)
    np.testing.assert_array_equal(member.transform(observations, flow)[:, 3:], appended)
    flow.episode_starts = np.array([True, False])
    np.testing.assert_array_equal(member.transform(observations, flow)[:, 3:], [[0] * size, appended[1]])
    box = member.observation_space(spaces.Box(-np.inf, np.inf, (3,)))
    assert box.shape == (3 + size,) and box.dtype == np.float32


def test_previous_action_in_a_rollout() -> None:
    trainer = build(experiment([friend("PreviousAction")], drift(spaces.Discrete(3))))
    rollout = arrays(trainer.collect())
    for t in range(1, 17):
        onehot = np.eye(3)[rollout.actions[t - 1, :, 0]] * rollout.active[t - 1][:, None]
        np.testing.assert_array_equal(rollout.observations[t, :, 3:], onehot)


@pytest.mark.parametrize(
    "friends",
    [
        [friend("ObservationHistory"), friend("PreviousAction"), friend("ObservationNormalizer")],
        [friend("ObservationNormalizer"), friend("PreviousAction"), friend("ObservationHistory")],
        [friend("PreviousAction"), friend("SplitObservations", exteroceptive="0-1")],
    ],
)
def test_any_number_of_ranks(friends: Any) -> None:
    assert_same_on_any_ranks(experiment(friends))


@pytest.mark.parametrize("chosen", [(), "0-2", (0, 1, 2)])
def test_split_with_an_empty_part_is_the_plain_network(chosen: Any) -> None:
    plain, _ = trained(experiment())
    split, _ = trained(experiment([friend("SplitObservations", exteroceptive=chosen)]))
    assert isinstance(next(iter(split.friends)), SplitObservations)
    for name, tensor in plain.network.state_dict().items():
        assert torch.equal(tensor, split.network.state_dict()[name]), name


@pytest.mark.parametrize(("widths", "shared"), [((8,), False), ((8,), True), ((), False), ((), True)])
def test_split_parts_are_read_apart(widths: Any, shared: bool) -> None:
    network = {"actor_hidden": widths, "critic_hidden": widths, "shared": shared}
    chosen = experiment(
        [
            friend(
                "SplitObservations", exteroceptive=(1,), exteroceptive_widths=[4], proprioceptive_widths=[6]
            )
        ],
        network=network,
    )
    trainer, _ = trained(chosen)
    encoder = trainer.network.actor_encoder
    assert isinstance(encoder, SplitEncoder) and encoder.features == 10
    assert (trainer.network.critic_encoder is encoder) == shared
    rows = torch.randn(6, 3)
    changed = rows.clone()
    changed[:, 1] += 1.0
    before, after = encoder(rows), encoder(changed)
    assert torch.equal(before[:, 4:], after[:, 4:]) and not torch.equal(before[:, :4], after[:, :4])
    # All of it is trained: the layers are in the optimizer's buffer.
    first = encoder.readers[0][0].weight
    assert any(parameter is first for group in trainer.optimizer.groups for parameter in group.parameters)
    assert trainer.network(rows)[1].shape == (6, 1)


class Eyes(Drift):
    """A body's state and what it sees, in a Dict."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))
        self.observation_space = spaces.Dict(
            body=spaces.Box(-10.0, 10.0, (3,)), eye=spaces.Box(0, 255, (36, 36, 1), np.uint8)
        )

    def _observe(self) -> Any:
        picture = np.full((36, 36, 1), int(np.abs(self.place[0] * 50)) % 255, np.uint8)
        return {"body": np.clip(self.place, -10, 10).astype(np.float32), "eye": picture}


def test_split_by_the_keys_of_a_dict_reads_an_image_with_a_cnn() -> None:
    chosen = experiment([friend("SplitObservations", exteroceptive="eye")], Eyes)
    trainer, stats = trained(chosen)
    reader = trainer.network.actor_encoder.readers[0]
    assert isinstance(reader, ImageReader) and reader.shape == (36, 36, 1) and reader.scale == 1 / 255
    assert np.isfinite(stats["policy_loss"])
    with pytest.raises(UsageError, match=r"no 'eyes' in the observation\. Did you mean eye"):
        build(experiment([friend("SplitObservations", exteroceptive="eyes")], Eyes))
    with pytest.raises(UsageError, match="stacked observations"):
        build(
            experiment([friend("ObservationHistory"), friend("SplitObservations", exteroceptive="eye")], Eyes)
        )


@pytest.mark.parametrize(
    ("friends", "message"),
    [
        ([friend("SplitObservations", exteroceptive=3)], "0 to 2"),
        ([friend("SplitObservations", exteroceptive="2-5")], "0 to 2"),
        ([friend("SplitObservations", exteroceptive="lidar")], "no keys: give indices"),
        ([friend("SplitObservations", exteroceptive=0), friend("PreviousAction")], "must come after"),
        ([friend("SplitObservations", exteroceptive_widths=())], "at least one width"),
        ([friend("ObservationHistory", length=0)], "at least 1"),
    ],
)
def test_mistakes(friends: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(experiment(friends))


@pytest.mark.parametrize("name", ["ObservationHistory", "PreviousAction", "SplitObservations"])
def test_images_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} works on vectors"):
        build(experiment([friend(name)], drift(spaces.Discrete(2), image=True), network={}))


def test_the_policy_remembers_between_steps_of_a_test() -> None:
    trainer, _ = trained(experiment([friend("ObservationHistory", length=2)], Drift))
    policy = trainer.agent.policy()
    policy.reset(1)
    first, second = np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32)
    policy.act({"policy": first})
    remembered = policy.act({"policy": second})
    policy.reset(1)
    assert not np.allclose(policy.act({"policy": second}), remembered)


def test_gsde_stands_behind_a_split_without_hidden_layers() -> None:
    network = {"actor_hidden": (), "critic_hidden": ()}
    both = [friend("SplitObservations", exteroceptive=0), friend("StateDependentExploration")]
    trained(experiment(both, network=network))
    with pytest.raises(UsageError, match="before StateDependentExploration"):
        build(experiment(both[::-1], network=network))
    assert NetworkSettings(**network).actor_hidden == ()  # type: ignore[arg-type]
