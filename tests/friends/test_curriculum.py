"""Friends that change what environments are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.curriculum import Curriculum
from ppo_and_friends.friends.domain_randomisation import DomainRandomisation
from ppo_and_friends.ppo.hooks import Episode
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.runs.checkpoint import Checkpoint
from ppo_and_friends.runs.checkpoint_contents import capture, restore_trainer
from ppo_and_friends.settings.experiment import Experiment, friend, linear, steps
from ppo_and_friends.settings.overrides import parse_friend
from ppo_and_friends.settings.schedules import Status
from ppo_and_friends.vector.protocol import Task
from tests.engine import experiment, on_ranks


class Levelled(gymnasium.Env[Any, Any]):
    """Observes [level, size, number asked for]; an episode is one step, rewarded by 10 x level."""

    def __init__(self, size: float = 1.0) -> None:
        self.level, self.size = 0.0, size
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.asked = (options or {}).get("number", 0.0)
        return np.array([self.level, self.size, self.asked]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.array([self.level, self.size, self.asked]), 10.0 * self.level, True, False, {}


def settings(name: str, **arguments: Any) -> Experiment:
    """4 environments for 10 steps: 20 episodes, 20 timesteps an iteration, the other rows being resets."""
    sizes: dict[str, Any] = {"num_envs": 4, "rollout_timesteps": 40, "minibatch_size": 20, "epochs": 1}
    return experiment(Levelled, (friend(name, **arguments),), num_timesteps=200, **sizes)


def seen(trainer: Trainer, iterations: int, column: int = 0) -> list[list[float]]:
    """What the environments' episodes were in each iteration, in order."""
    found = []
    for _ in range(iterations):
        trainer.train_iteration()
        values = trainer.collector.rollout.observations["policy"][:10, :, column]
        found.append(list(dict.fromkeys(np.round(values.flatten().tolist(), 6).tolist())))
    return found


def levels(iterations: int, column: int = 0, ranks: int = 1, **arguments: Any) -> list[list[float]]:
    chosen = settings("Curriculum", **arguments)
    first, *others = on_ranks(chosen, ranks, lambda trainer, _: seen(trainer, iterations, column))
    assert all(other == first for other in others)
    return first


@pytest.mark.parametrize("ranks", [1, 3])
def test_by_timesteps(ranks: int) -> None:
    # 20 timesteps an iteration: 40 are done before the third one.
    assert levels(4, ranks=ranks, attributes={"level": "1,2@40"}) == [[1], [1], [2], [2]]
    # Three hundredths of the run are done before the second: the line from 1 to 11.
    assert levels(3, attributes={"level": "1:11"}) == [[1], [1, 2], [2, 3]]


def test_by_score_over_full_windows_and_one_step_at_a_time() -> None:
    # The score is 10 from the start, and 20 in the second stage, which is enough for the third as well. But
    # a window is full after 100 episodes, which is 5 iterations, and each stage needs one of its own.
    found = levels(12, attributes={"level": "1,2@episode_return_mean_100>=10,3@episode_return_mean_100>=20"})
    assert found == [[1]] * 5 + [[2]] * 5 + [[3]] * 2
    assert levels(7, attributes={"level": "1,2@episode_return_mean_100>=10.5"}) == [[1]] * 7
    assert levels(3, attributes={"level": "1,2@iteration>=1,3@iteration>=1"}) == [[1], [2], [3]]


def test_options_arguments_and_words() -> None:
    assert levels(2, 2, options={"number": "0,5@20"}) == [[0], [5]]
    assert levels(2, 1, arguments={"size": "3,4@20"}) == [[3], [4]]
    friends = Curriculum(
        arguments={"map": "4x4,8x8@episode_return_mean_100>=0.7", "slippery": "false,true@100"}
    )
    assert [each.values for each in friends.asked.values()] == [("4x4", "8x8"), (False, True)]
    spec = parse_friend('Curriculum:attributes={"gravity": "5:9.8", "level": "1,2@7"},options={"a": [1, 2]}')
    assert spec.arguments == {"attributes": {"gravity": "5:9.8", "level": "1,2@7"}, "options": {"a": [1, 2]}}


def test_schedules_of_a_launcher() -> None:
    assert levels(3, attributes={"level": steps(1.0, (40, 2.0))}) == levels(3, attributes={"level": "1,2@40"})
    assert levels(3, attributes={"level": linear(1, 11)}) == levels(3, attributes={"level": "1:11"})


def by_metrics(status: Status) -> dict[str, Any]:
    """The level is the number of episodes of the last iteration, or 1."""
    return {"attributes": {"level": status.latest.get("episodes", 1.0)}}


def wrong(status: Status) -> Any:
    return {"attribute": {"level": 1.0}}


def broken(status: Status) -> Any:
    return status.latest["nothing"]


@pytest.mark.parametrize("ranks", [1, 2])
def test_by_a_users_function(ranks: int) -> None:
    assert levels(3, ranks=ranks, function=f"{__name__}:by_metrics") == [[1], [1, 20], [20]]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "changes nothing"),
        ({"attributes": {"level": "1,2@score>=x"}}, "steps are written"),
        ({"attributes": {"level": "1,2@40,3"}}, "steps are written"),
        ({"attributes": {"level": "1,2@score_mean_100>=4"}}, "is called episode_return_mean_100 now"),
        ({"function": f"{__name__}:wrong"}, "must return dictionaries by attributes, options, arguments"),
        ({"function": f"{__name__}:broken"}, "KeyError: 'nothing'"),
        ({"function": "nothing:there"}, "can't be imported"),
        ({"attributes": {"level": "1,2@episode_return_mean>=4,3@iteratio>=9"}}, "Did you mean iteration"),
        ({"attributes": {"level": "1,2@Evaluator/score>=4"}}, "is called 'Evaluator/score'"),
        ({"attributes": {"levels": 1}}, "no attribute 'levels'. Did you mean level"),
    ],
)
def test_nonsense_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        levels(1, **arguments)
    assert told in str(caught.value) and len(str(caught.value).splitlines()) <= 2


def test_a_resumed_run_is_in_the_same_stage() -> None:
    chosen = settings(
        "Curriculum", attributes={"level": "1,2@episode_return_mean_100>=10,3@episode_return_mean_100>=20"}
    )

    def save(trainer: Trainer, _: Any) -> Any:
        seen(trainer, 7)
        tensors, plain = capture(trainer, 1.0)
        return {key: tensor.detach().clone() for key, tensor in tensors.items()}, plain

    def load(trainer: Trainer, _: Any) -> Any:
        checkpoint = Checkpoint(Path("saved"), plain["timesteps"], tensors, plain, {})
        assert restore_trainer(trainer, checkpoint) == []
        return seen(trainer, 5)

    ((tensors, plain),) = on_ranks(chosen, 1, save)
    assert on_ranks(chosen, 2, load)[0] == [[2]] * 3 + [[3]] * 2


def test_every_episode_is_drawn_by_itself() -> None:
    chosen = settings("DomainRandomisation", attributes={"level": (1.0, 3.0)}, options={"number": (4, 5, 6)})

    def drawn(trainer: Trainer, _: Any) -> Any:
        trainer.train_iteration()
        return trainer.collector.rollout.observations["policy"].numpy().copy()

    (whole,) = on_ranks(chosen, 1, drawn)
    parts = np.concatenate(on_ranks(chosen, 3, drawn), axis=1)
    np.testing.assert_array_equal(parts, whole)
    levels = whole[::2, :, 0]  # steps and resets alternate
    assert len(np.unique(levels)) == levels.size and (levels >= 1.0).all() and (levels <= 3.0).all()
    assert set(np.unique(whole[:, :, 2])) == {4.0, 5.0, 6.0}


def test_ranges_and_logarithms() -> None:
    class Fixed(DomainRandomisation):
        def generator(self, *position: int) -> np.random.Generator:
            return np.random.default_rng(position)

    def draws(**arguments: Any) -> Any:
        friend = Fixed(**arguments)
        return [friend.choose_task(Task(), Episode(0, 1, number)).scales["mass"] for number in range(4000)]

    even, log = draws(scales={"mass": (0.1, 10.0)}), draws(scales={"mass": (0.1, 10.0)}, log=True)
    # The mean of U(a, b) is (a + b) / 2, its deviation (b - a) / sqrt(12): 2.86 / sqrt(4000) is 0.045.
    assert abs(np.mean(even) - 5.05) < 4 * 0.045
    # The logarithm is uniform from -2.3 to 2.3, so the median is 1, and half are below it.
    assert abs(np.mean(np.less(log, 1.0)) - 0.5) < 4 * 0.5 / np.sqrt(4000)
    for arguments in (
        {},
        {"scales": {"mass": (2, 1)}},
        {"scales": {"mass": (0, 1)}, "log": True},
        {"options": {"a": ()}},
        {"scales": {"mass": ("a", "b", "c")}},
    ):
        with pytest.raises(UsageError, match="DomainRandomisation"):
            DomainRandomisation(**arguments)  # type: ignore[arg-type]
    later = Fixed(attributes={"mass": (1, 1)}).choose_task(
        Task(attributes={"mass": 5, "size": 2}), Episode(0, 1, 0)
    )
    assert later.attributes == {"mass": 1.0, "size": 2}
