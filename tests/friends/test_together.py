"""Friends together, in random sets and orders; a friend of one's own; what the command line says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.cli.main import main
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.catalog import BUILT_IN, find_friend, make_friend
from ppo_and_friends.settings.experiment import FriendSpec, friend
from ppo_and_friends.settings.overrides import parse_friend
from tests.friends.runs import assert_same_on_any_ranks, build, drift, experiment, trained

ARGUMENTS: dict[str, dict[str, Any]] = {
    "SplitObservations": {"exteroceptive": (1,)},
    "Evaluator": {"every": 1, "episodes": 1},
    "SegmentLength": {"steps": 3},
    "Curriculum": {"attributes": {"push": "0.1,0.2@80"}},
    "DomainRandomisation": {"scales": {"push": (0.5, 2.0)}},
}
SPACES = [
    spaces.Box(-1.0, 1.0, (2,)),
    spaces.Box(-np.inf, np.inf, (1,)),
    spaces.Discrete(3, start=1),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(2),
]


def spec(name: str, space: Any = None) -> FriendSpec:
    """A friend with arguments for a `Drift` with this action space; None: its own."""
    arguments = ARGUMENTS.get(name, {})
    if name == "SymmetryAugmentation":
        kind = SPACES[0] if space is None else space
        turned = (
            range(kind.n, 0, -1) if isinstance(kind, spaces.Discrete) else range(-1, -kind.shape[0] - 1, -1)
        )
        arguments = {"observation": (-1, 3, 2), "action": tuple(turned)}
    return friend(name, **arguments)


def fits(name: str, space: Any) -> bool:
    """Whether a friend can handle the action space."""
    if name in ("StateDependentExploration", "StdClip"):
        return isinstance(space, spaces.Box)
    return name != "SymmetryAugmentation" or isinstance(space, spaces.Box | spaces.Discrete)


def compatible(names: list[str], space: Any) -> list[str]:
    """Those of the names that may stand together: the first of two that conflict, split ones last."""
    kept: list[str] = []
    for name in names:
        kind = find_friend(name)
        clash = any(name in find_friend(other).conflicts or other in kind.conflicts for other in kept)
        if not clash and fits(name, space):
            kept.append(name)
    return sorted(kept, key=lambda name: name == "SplitObservations")


@pytest.mark.parametrize("draw", range(20))
def test_random_sets_and_orders_train(draw: int) -> None:
    random = np.random.default_rng(draw)
    space = SPACES[draw % len(SPACES)]
    names = random.permutation(list(BUILT_IN))[: random.integers(4, 14)].tolist()
    names = compatible(names, space)
    chosen = experiment([spec(name, space) for name in names], drift(space))
    trainer, stats = trained(chosen)
    assert trainer.optimizer.parameters.isfinite().all(), names
    assert np.isfinite([stats["policy_loss"], stats["value_loss"], stats["kl"]]).all(), names
    assert_same_on_any_ranks(chosen, (2,))


def test_conflicts_are_named() -> None:
    for names in (
        ("RewardNormalizer", "RewardNormalizer"),
        ("PopArt", "ValueNormalizer"),
        ("CorrelatedNoise", "StateDependentExploration"),
    ):
        with pytest.raises(UsageError) as caught:
            build(experiment([friend(name) for name in names]))
        assert all(name in str(caught.value) for name in names)


def test_every_conflict_names_a_friend() -> None:
    for name in BUILT_IN:
        for other in find_friend(name).conflicts:
            assert find_friend(other).__name__ == other


@pytest.mark.parametrize(
    ("text", "attribute", "value"),
    [
        ("ICM:scale=0.05,lr=1e-4", "scale", 0.05),
        ("ICM:scale=0.05,lr=1e-4", "learning_rate", 1e-4),
        ("ICM:hidden=[32,16]", "hidden", (32, 16)),
        ("SplitObservations:exteroceptive=14-23", "chosen", ("14-23",)),
        ("RewardClip:low=-1:-100:linear,high=3", "low", -1.0),
        ("mpi_examples.custom_friend:SmoothActions:weight=2", "weight", 2.0),
    ],
)
def test_arguments_from_the_command_line(text: str, attribute: str, value: Any) -> None:
    assert getattr(make_friend(parse_friend(text)), attribute) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ICM:skale=1", "It accepts: scale, extrinsic_weight"),
        ("KLPenalty:start=nan", "start=nan is not a number"),
        ("KLEarlyStop:target=nan", "target=nan is not right: not a number"),
        ("ICM:scale=big", "ICM: scale='big'"),
        ("BootstrapClip:range=any", "'returns', 'rewards' or 'fixed'"),
        ("ICN", "Did you mean ICM"),
        ("mpi_examples.custom_friend:Smooth", "can't be imported"),
        ("mpi_examples.custom_friend:np", "not a friend"),
    ],
)
def test_mistakes_on_the_command_line(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_friend(parse_friend(text))


def test_own_friend_in_a_launcher_and_on_any_ranks() -> None:
    assert_same_on_any_ranks(experiment([FriendSpec("mpi_examples.custom_friend:SmoothActions", {})]))


@pytest.mark.slow
def test_own_friend_on_the_command_line(tmp_path: Path) -> None:
    arguments = ["-e", "Pendulum", "--num_timesteps", "4096", "--state_path", str(tmp_path), "--quiet"]
    own = "mpi_examples.custom_friend:SmoothActions:weight=0.1"
    assert main([*arguments, "--no-tensorboard", "--with", own]) == 0
    header, row = (tmp_path / "Pendulum" / "progress.csv").read_text().splitlines()[:2]
    cost = dict(zip(header.split(","), row.split(","), strict=True))["SmoothActions/cost"]
    assert float(cost) > 0.0


def test_the_example_is_short() -> None:
    path = Path(__file__).parents[2] / "mpi_examples" / "custom_friend.py"
    assert len(path.read_text().splitlines()) <= 40


def test_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list_friends"]) == 0
    shown = "".join(capsys.readouterr().out.split())
    for name in BUILT_IN:
        assert name in shown
        assert find_friend(name).source, name
