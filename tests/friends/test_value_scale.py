"""Normalised value targets: PopArt's outputs stay, statistics are those of all returns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.value_scale import PopArt, ValueNormalizer
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import friend
from tests.friends.runs import assert_same_on_any_ranks, build, experiment
from tests.rollouts import arrays


def collected(
    name: str, precision: str = "float64", **arguments: Any
) -> tuple[Trainer, ValueNormalizer, Any]:
    trainer = build(experiment([friend(name, **arguments), friend("RND")], precision=precision))
    member = next(iter(trainer.friends))
    assert isinstance(member, ValueNormalizer)
    for _ in range(3):
        trainer.train_iteration()
    return trainer, member, trainer.collect()


def predictions(trainer: Trainer, rollout: Any) -> dict[str, Any]:
    with torch.no_grad():
        outputs = trainer.network.values(rollout.observations["policy"].flatten(0, 1)).numpy()
    shape = rollout.observations["policy"].shape[:2]
    return {
        name: trainer.friends.decode_values(outputs[:, index].reshape(shape), name)
        for index, name in enumerate(trainer.network.streams)
    }


def test_popart_leaves_predictions_as_they_are() -> None:
    trainer, member, rollout = collected("PopArt")
    assert isinstance(member, PopArt)
    before, statistics = predictions(trainer, rollout), member.mean.clone()
    trainer.estimate(rollout)
    assert (member.mean - statistics).abs().min() > 1e-4
    after = predictions(trainer, rollout)
    assert list(after) == ["extrinsic", "novelty"]
    for name, values in after.items():
        np.testing.assert_allclose(values, before[name], atol=1e-9)
        # What the critic gave during the rollout is now in the new units, too.
        decoded = trainer.friends.decode_values(rollout.value_outputs[name], name)
        np.testing.assert_allclose(decoded, before[name], atol=1e-9)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_popart_in_single_precision(size: float) -> None:
    """The returns' mean of 100 deviations jumps in before the critic predicts any of it."""
    trainer = build(experiment([friend("PopArt")], precision="float32"))
    for _ in range(6):
        rollout = trainer.collect()
        rollout.rewards["extrinsic"] = size * (100.0 + rollout.rewards["extrinsic"])

        def decoded(outputs: Any) -> Any:
            return trainer.friends.decode_values(np.asarray(outputs, np.float64), "extrinsic")

        def heads(rollout: Any = rollout) -> Any:
            with torch.no_grad():
                return trainer.network.values(rollout.observations["policy"].flatten(0, 1)).numpy()

        before = decoded(heads()[:, 0])
        trainer.estimate(rollout)
        bound = 1e-6 * np.abs(before).max()
        np.testing.assert_allclose(decoded(heads()[:, 0]), before, atol=bound, rtol=0.0)
        kept = decoded(rollout.value_outputs["extrinsic"]).reshape(-1)
        np.testing.assert_allclose(kept, before, atol=bound, rtol=0.0)
        trainer.improve(rollout, trainer._scheduled_controls(trainer.progress, {}))


def test_the_plain_scale_changes_predictions() -> None:
    trainer, member, rollout = collected("ValueNormalizer")
    assert not isinstance(member, PopArt)
    before = predictions(trainer, rollout)["extrinsic"]
    trainer.estimate(rollout)
    assert np.abs(predictions(trainer, rollout)["extrinsic"] - before).max() > 1e-4


def test_statistics_are_those_of_all_returns_in_two_passes() -> None:
    trainer = build(experiment([friend("ValueNormalizer")], precision="float64"))
    member = next(iter(trainer.friends))
    assert isinstance(member, ValueNormalizer)
    seen = []
    for _ in range(4):
        rollout = trainer.collect()
        trainer.estimate(rollout)
        rollout = arrays(rollout)
        seen.append(rollout.returns["extrinsic"][rollout.active])
        np.testing.assert_allclose(
            rollout.value_targets["extrinsic"],
            (rollout.returns["extrinsic"] - np.concatenate(seen).mean()) / np.concatenate(seen).std(),
            rtol=1e-9,
        )
    everything = np.concatenate(seen)
    np.testing.assert_allclose(member.count, [len(everything)])
    np.testing.assert_allclose(member.mean, [everything.mean()], rtol=1e-12)
    np.testing.assert_allclose(member.variance, [everything.var()], rtol=1e-12)


def test_decay_weighs_the_old_statistics() -> None:
    trainer = build(experiment([friend("PopArt", decay=0.75)], precision="float64"))
    member = next(iter(trainer.friends))
    assert isinstance(member, ValueNormalizer)
    expected = None
    for _ in range(3):
        rollout = trainer.collect()
        trainer.estimate(rollout)
        mean = rollout.returns["extrinsic"][rollout.active].mean()
        expected = mean if expected is None else 0.75 * expected + 0.25 * mean
        np.testing.assert_allclose(member.mean, [expected], rtol=1e-12)


def test_a_second_estimation_does_not_count_twice() -> None:
    trainer, member, rollout = collected("PopArt")
    trainer.estimate(rollout)
    before = member.count.clone()
    trainer.reestimate(rollout)
    assert torch.equal(member.count, before)


@pytest.mark.parametrize("name", ["PopArt", "ValueNormalizer"])
def test_any_number_of_ranks(name: str) -> None:
    assert_same_on_any_ranks(experiment([friend(name), friend("AdvantageRecompute")]))


def test_the_two_are_refused_together() -> None:
    with pytest.raises(UsageError, match="PopArt and ValueNormalizer can't work together"):
        build(experiment([friend("PopArt"), friend("ValueNormalizer")]))
    with pytest.raises(UsageError, match="decay"):
        build(experiment([friend("PopArt", decay=1.0)]))
