"""Filming while training: when, where, and that training doesn't notice."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.threaded_communicator import run_threaded
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.video_recorder import VideoRecorder
from ppo_and_friends.settings.experiment import FriendSpec, friend
from tests.friends.runs import Drift, build, drift, experiment


class Shown(Drift):
    """A `Drift` that can be looked at."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        self.render_mode = render_mode

    def render(self) -> Any:
        return np.full((48, 64, 3), 10 * self.t, np.uint8)


def train(folder: Path, make: Any, friends: tuple[FriendSpec, ...], size: int = 1) -> dict[str, np.ndarray]:
    """Rank 0's tensors after four iterations."""

    def run(communicator: Communicator) -> dict[str, np.ndarray]:
        trainer = build(experiment(friends, make), communicator, folder)
        for _ in range(4):
            trainer.train_iteration()
        return {name: t.detach().numpy().copy() for name, t in trainer.network.state_dict().items()}

    return run_threaded(size, run)[0]


@pytest.mark.parametrize("size", [1, 2])
def test_records_when_it_is_due(tmp_path: Path, size: int) -> None:
    friends = (friend("ObservationNormalizer"), friend("VideoRecorder", every=150))
    filmed = train(tmp_path, Shown, friends, size)
    # Iterations end after about 70, 140, 210 and 280 steps: 150 is passed in the third, 300 never.
    (path,) = (tmp_path / "videos").iterdir()
    assert 150 <= int(path.stem) < 225
    with Image.open(path) as film:
        assert film.n_frames == 8  # the first look and 7 steps
    # Training goes on to the same parameters as without the camera.
    plain = train(tmp_path / "plain", Shown, friends[:1], size)
    for name, value in plain.items():
        np.testing.assert_array_equal(filmed[name], value, err_msg=name)


def test_what_cannot_be_drawn_ends_the_films_and_not_the_training(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(tmp_path, drift(), (friend("VideoRecorder", every=70),))
    said = [str(each.message) for each in caught if "VideoRecorder stops" in str(each.message)]
    assert len(said) == 1 and not (tmp_path / "videos").exists()


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build(experiment((friend("VideoRecorder", every=1),), Shown)).train_iteration()
    assert not list(tmp_path.iterdir())


def test_the_film_is_reported_once(tmp_path: Path) -> None:
    trainer = build(experiment((friend("VideoRecorder", every=70),), Shown), folder=tmp_path)
    reported = []
    for _ in range(2):  # about 70 steps each: due in the first or the second
        trainer.train_iteration()
        reported.append(trainer.friends.recordings())
    films = [path for each in reported for path in each.values()]
    assert films == sorted((tmp_path / "videos").iterdir()) and films
    assert not trainer.friends.recordings()


def test_never_is_refused() -> None:
    with pytest.raises(UsageError, match="every must be at least 1, not 0"):
        VideoRecorder(every=0)
