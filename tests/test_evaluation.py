"""Whole episodes on the canonical environment: arithmetic, guards, windows and recordings."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

from ppo_and_friends.errors import EnvironmentFault, UsageError
from ppo_and_friends.evaluation import pictures, rendering, video
from ppo_and_friends.evaluation.evaluate import Episode, Evaluation, evaluate
from ppo_and_friends.evaluation.player import batch_of_one, to_action
from ppo_and_friends.reporting.tables import print_evaluation
from ppo_and_friends.reporting.waiting import Waiting
from ppo_and_friends.settings.experiment import AtariSettings, EnvironmentSettings

SETTINGS = EnvironmentSettings(id="Toy-v0")


class Toy(gym.Env[Any, Any]):
    """Rewards 10.5 a step and ends after ``seed % 5 + 2`` steps."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "human"], "render_fps": 50}  # noqa: RUF012
    observation_space = spaces.Dict(
        {"kind": spaces.Discrete(3, start=1), "position": spaces.Box(-100.0, 100.0, (2,))}
    )
    action_space = spaces.Discrete(4, start=2)

    def __init__(self, mode: str | None = None, fault: str = "", endless: bool = False) -> None:
        self.render_mode, self.fault, self.endless = mode, fault, endless
        self.actions: list[Any] = []
        self.closed = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time, self.limit = 0, (seed or 0) % 5 + 2
        return self.observation(), {}

    def observation(self) -> Any:
        position = np.full(2, self.time, np.float32)
        if self.time == 3 and self.fault == "nan":
            position[1] = np.nan
        if self.time == 3 and self.fault == "shape":
            position = np.zeros(3, np.float32)
        return {
            "position": position,
            "kind": 9 if self.time == 3 and self.fault == "kind" else 1 + self.time % 3,
        }

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.actions.append(action)
        self.time += 1
        if self.time == 3 and self.fault == "raise":
            raise RuntimeError("broken joint")
        reward: Any = np.inf if self.time == 3 and self.fault == "reward" else 10.5
        over = self.time >= self.limit and not self.endless
        return self.observation(), reward, over and self.limit % 2 == 0, over and self.limit % 2 == 1, {}

    def render(self) -> Any:
        frame = np.zeros((60, 80, 3), np.uint8)
        frame[:, : 4 * self.time] = 255
        return frame

    def close(self) -> None:
        self.closed = True


class Watcher:
    """A policy that remembers what it was asked."""

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.observations: list[Any] = []
        self.modes: set[bool] = set()

    def reset(self, seed: int) -> None:
        self.seeds.append(seed)

    def act(self, observations: Any, deterministic: bool) -> Any:
        self.observations.append(observations["policy"].copy())
        self.modes.add(deterministic)
        return np.full(len(observations), 4)


def toy(**arguments: Any) -> tuple[Toy, Any]:
    env = Toy(**arguments)

    def make(settings: EnvironmentSettings, mode: str | None) -> Toy:
        env.render_mode = mode
        return env

    return env, make


def test_scores_lengths_seeds_and_statistics() -> None:
    env, make = toy()
    policy, seen = Watcher(), []
    result = evaluate(
        policy, SETTINGS, episodes=3, seed=7, make_env=make, timesteps=500,
        on_episode=lambda index, episode: seen.append((index, episode.length)),
    )  # fmt: skip
    # Seeds 7, 8, 9 end after 4, 5, 6 steps of 10.5.
    assert [(one.episode_return, one.length, one.hit_step_limit) for one in result.episodes] == [
        (42.0, 4, False), (52.5, 5, False), (63.0, 6, False)
    ]  # fmt: skip
    assert seen == [(0, 4), (1, 5), (2, 6)]
    assert policy.seeds == [7, 8, 9] and policy.modes == {True}
    assert (result.mean, result.min, result.max) == (52.5, 42.0, 63.0)
    assert result.std == pytest.approx(10.5 * (2 / 3) ** 0.5)
    assert env.closed and all(action == 4 and isinstance(action, np.integer) for action in env.actions)


def test_observations_are_encoded_as_in_training() -> None:
    policy = Watcher()
    evaluate(policy, SETTINGS, episodes=1, seed=0, make_env=toy()[1])
    # Keys in the Dict's order: kind (one-hot of 1 + time % 3), position.
    np.testing.assert_array_equal(policy.observations[0], [[1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(policy.observations[1], [[0, 1, 0, 1, 1]])


def test_test_scores_file(tmp_path: Path) -> None:
    result = Evaluation("Toy-v0", 500, (Episode(1.0, 3), Episode(2.0, 4)), deterministic=False, seed=3)
    result.write(tmp_path / "run" / "test_scores.json")
    data = json.loads((tmp_path / "run" / "test_scores.json").read_text())
    assert list(data)[:7] == ["environment", "timesteps", "episodes", "mean", "std", "min", "max"]
    assert data["episodes"] == [{"score": 1.0, "length": 3}, {"score": 2.0, "length": 4}]
    assert (data["mean"], data["std"], data["min"], data["max"]) == (1.5, 0.5, 1.0, 2.0)
    assert (data["deterministic"], data["seed"], data["timesteps"]) == (False, 3, 500)


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_evaluation(Evaluation("Toy-v0", 12_345, (Episode(1.0, 3), Episode(2.0, 4, hit_step_limit=True))))
    text = capsys.readouterr().out
    assert "Toy-v0, deterministic, after 12.3k steps" in text and "1.50" in text
    assert "1 episode cut off after 4 steps" in text
    assert max(map(len, text.splitlines()[:-2])) <= 80


def test_an_endless_episode_is_cut_and_says_so() -> None:
    result = evaluate(
        Watcher(), SETTINGS, episodes=1, seed=0, make_env=toy(endless=True)[1], max_episode_steps=17
    )
    assert result.episodes == (Episode(17 * 10.5, 17, hit_step_limit=True),)


class Forgetful(Toy):
    """Pays more in each later episode: something that a reset leaves as it was."""

    episodes = 0

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        self.episodes += 1
        return super().reset(**arguments)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, *rest = super().step(action)
        return observation, reward * self.episodes, *rest  # type: ignore[return-value]


def test_an_episode_depends_on_its_seed_alone() -> None:
    made: list[Forgetful] = []

    def make(settings: EnvironmentSettings, mode: str | None) -> Forgetful:
        made.append(Forgetful())
        return made[-1]

    def play(first: int, episodes: int) -> list[Episode]:
        return list(evaluate(Watcher(), SETTINGS, episodes=episodes, seed=first, make_env=make).episodes)

    # Seeds 4, 5, 6 end after 6, 2, 3 steps of 10.5, each as the first episode of its environment.
    assert play(4, 3) == [Episode(63.0, 6), Episode(21.0, 2), Episode(31.5, 3)]
    assert play(4, 3) == play(4, 1) + play(5, 2)
    assert len(made) == 9 and all(env.closed and env.episodes == 1 for env in made)


def test_a_real_environment_that_carries_state_over_its_resets() -> None:
    class Wild:
        def reset(self, seed: int) -> None:
            self.rng = np.random.default_rng(seed)

        def act(self, observations: Any, deterministic: bool) -> Any:
            return self.rng.uniform(-1.0, 1.0, (1, 4)).astype(np.float32)

    walker = EnvironmentSettings(id="BipedalWalker-v3")
    third = evaluate(Wild(), walker, episodes=3, seed=5).episodes[2]
    assert evaluate(Wild(), walker, episodes=1, seed=7).episodes == (third,)  # -99.3 instead of -99.6


def test_a_window_stays_open_between_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    import pygame

    from ppo_and_friends.evaluation import evaluate as evaluation

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr(evaluation, "require_display", lambda: None)
    closed: list[int] = []
    quit_display = pygame.display.quit
    monkeypatch.setattr(pygame.display, "quit", lambda: (closed.append(len(played)), quit_display()))

    class Left:
        def reset(self, seed: int) -> None: ...

        def act(self, observations: Any, deterministic: bool) -> Any:
            return np.zeros(len(observations), np.int64)

    played: list[Episode] = []
    settings = EnvironmentSettings(id="CartPole-v1")
    evaluate(
        Left(), settings, episodes=2, seed=1, render="human", on_episode=lambda _, one: played.append(one)
    )
    assert len(played) == 2 and set(closed) == {2}, "closed when all was played, and not before"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("nan", 'observation["position"] contains nan'),
        ("shape", 'observation["position"] has shape (3,), not (2,)'),
        ("kind", 'observation["kind"]'),
        ("reward", "reward is inf"),
        ("raise", "step raised RuntimeError: broken joint"),
    ],
)
def test_faults_name_episode_step_and_key(fault: str, words: str) -> None:
    env, make = toy(fault=fault)
    with pytest.raises(EnvironmentFault) as caught:
        evaluate(Watcher(), SETTINGS, episodes=3, seed=5, make_env=make)
    # Seeds 5 and 6 end after 2 and 3 steps.
    assert words in str(caught.value) and "test episode 1, step 3" in str(caught.value)
    assert env.closed


def test_no_episodes_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        evaluate(Watcher(), SETTINGS, episodes=0, seed=0, make_env=toy()[1])


def test_a_window_without_a_display_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "has_display", lambda: False)
    with pytest.raises(UsageError, match="--render_gif"):
        evaluate(Watcher(), SETTINGS, episodes=1, seed=0, render="human", make_env=toy()[1])


def test_display_by_platform() -> None:
    assert not rendering.has_display({}, "linux")
    assert rendering.has_display({"DISPLAY": ":0"}, "linux")
    assert rendering.has_display({"WAYLAND_DISPLAY": "wayland-0"}, "linux")
    assert rendering.has_display({}, "darwin")


def test_a_closed_window_ends_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    from ppo_and_friends.evaluation import evaluate as evaluation
    from ppo_and_friends.evaluation import player

    asked = iter([False] * 4 + [True] * 9)
    monkeypatch.setattr(evaluation, "require_display", lambda: None)
    monkeypatch.setattr(player, "window_closed", lambda: next(asked))
    env, make = toy()
    result = evaluate(Watcher(), SETTINGS, episodes=5, seed=1, render="human", make_env=make)
    assert [one.length for one in result.episodes] == [3] and env.closed


def record(path: Path, **arguments: Any) -> Evaluation:
    return evaluate(
        Watcher(),
        SETTINGS,
        seed=1,
        render="record",
        video_path=path,
        **{"episodes": 3, "make_env": toy()[1], **arguments},
    )


@pytest.mark.parametrize(("choice", "frames"), [("best", 3), ("worst", 2), ("median", 3), ("all", 8)])
def test_gif_of_the_chosen_episode(tmp_path: Path, choice: Any, frames: int) -> None:
    # Seeds 1, 2, 3: 3, 4, 5 steps; at 50 steps a second every second frame is kept, the first included.
    result = record(tmp_path / "toy.gif", video=choice)
    assert result.video == tmp_path / "toy.gif"
    with Image.open(tmp_path / "toy.gif") as picture:
        assert picture.n_frames == frames  # type: ignore[attr-defined]
        assert picture.info["duration"] == 40, "25 frames a second: natural speed"
        assert picture.width == 320, "a tiny picture is enlarged"


@pytest.mark.parametrize(
    ("arguments", "rendered"),
    [
        # One picture to see whether it can be rendered; then seed 3's steps 0, 2 and 4.
        ({"video": "best"}, 1 + 3),
        ({"video": "worst"}, 1 + 2),
        ({"video": "all"}, 2 + 3 + 3),
        ({"episodes": 1}, 2),
        ({"video": "best", "video_steps": 2}, 1 + 2),
        ({"video": "all", "video_steps": 1}, 3),
    ],
)
def test_only_what_is_kept_is_rendered(
    arguments: Any, rendered: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    render = Toy.render

    def counted(self: Toy) -> Any:
        calls.append(self.time)
        return render(self)

    monkeypatch.setattr(Toy, "render", counted)
    result = record(tmp_path / "toy.gif", **arguments)
    assert len(calls) == rendered
    assert [one.length for one in result.episodes] == [3, 4, 5][: len(result.episodes)]


def test_frames_that_a_gif_leaves_out_are_not_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "GIF_MAX_FRAMES", 2)
    calls = []
    monkeypatch.setattr(
        Toy, "render", lambda self: (calls.append(self.time), np.zeros((60, 80, 3), np.uint8))[1]
    )
    record(tmp_path / "toy.gif", video="best")
    # Of steps 0, 2 and 4 every second is kept, for twice as long.
    assert calls == [0, 0, 4]
    with Image.open(tmp_path / "toy.gif") as picture:
        assert picture.info["duration"] == 80


def test_what_cannot_be_rendered_is_known_before_episodes_are_played(tmp_path: Path) -> None:
    class Blind(Toy):
        def render(self) -> Any:
            raise RuntimeError("no graphics")

    env = Blind()
    with pytest.raises(EnvironmentFault, match="no graphics"):
        record(tmp_path / "toy.gif", make_env=lambda *_: env)
    assert env.actions == []


def test_an_environment_that_seeds_do_not_determine_is_named(tmp_path: Path) -> None:
    class Moody(Toy):
        played = 0

        def reset(self, **arguments: Any) -> Any:
            Moody.played += 1
            return super().reset(**arguments)

        def step(self, action: Any) -> Any:
            observation, _, *rest = super().step(action)
            return observation, float(Moody.played), *rest

    with pytest.warns(UserWarning, match="isn't determined by its seed.*scored 25, and 20 before"):
        record(tmp_path / "toy.gif", make_env=lambda *_: Moody())


def test_it_is_said_how_far_a_test_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppo_and_friends.evaluation.evaluate.PROGRESS_EVERY", 0.0)
    said: list[tuple[float, str]] = []
    make = toy(endless=True)[1]
    evaluate(
        Watcher(), SETTINGS, episodes=2, seed=0, make_env=make, max_episode_steps=4,
        on_progress=lambda share, text: said.append((share, text)),
    )  # fmt: skip
    assert said[0] == (0.0, "test episode 1 of 2, step 0 of at most 4")
    assert said[2] == (0.25, "test episode 1 of 2, step 2 of at most 4")
    assert said[-1] == (1.0, "test episode 2 of 2, step 4 of at most 4")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "times", "expected"),
    [
        (Terminal(), (0.0, 0.0, 0.1, 0.15), "\r\x1b[2K" + "━" * 5 + "╌" * 15 + "  25%  one" + "\r\x1b[2K"),
        (io.StringIO(), (0.0, 0.0, 0.1, 16.0), "three (50%)\n"),
    ],
)
def test_waiting_draws_a_bar_in_a_terminal_and_lines_elsewhere(
    stream: io.StringIO, times: Any, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    now = iter(times)
    with Waiting(stream, lambda: next(now)) as waiting:
        waiting(0.25, "one")
        waiting(0.3, "two")
        waiting(0.5, "three")
    assert stream.getvalue() == expected


def test_mp4_is_read_back(tmp_path: Path) -> None:
    import imageio.v3 as iio

    record(tmp_path / "toy.mp4", video="best")
    frames = iio.imread(tmp_path / "toy.mp4")
    assert frames.shape[0] == 3 and frames.shape[1] % 2 == 0 and frames.shape[2] == 640
    assert iio.immeta(tmp_path / "toy.mp4")["fps"] == pytest.approx(25.0)
    # At step 4 the first 16 of 80 columns are white.
    assert frames[2, 100, 60].mean() > 220 and frames[2, 100, 300].mean() < 30


def test_a_long_gif_keeps_its_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "GIF_MAX_FRAMES", 2)
    record(tmp_path / "toy.gif", video="all")
    with Image.open(tmp_path / "toy.gif") as picture:
        assert picture.n_frames == 2  # type: ignore[attr-defined]
        assert picture.info["duration"] == 160


def test_an_unknown_extension_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.gif, \.mp4"):
        record(tmp_path / "toy.xyz")


def test_caption_fits_and_sides_are_even() -> None:
    for width in (33, 84, 320, 641):
        picture = pictures.caption(
            Image.new("RGB", (width, 51), "white"), "episode 12   step 1600   return -1,234"
        )
        assert picture.width % 2 == 0 and picture.height % 2 == 0
        bar = np.asarray(picture)[52:]
        assert bar.max() > 100, "the text is there"
        assert (np.asarray(picture)[:51, :width] == 255).all(), "and covers nothing"


def test_speed_of_atari_and_repeated_actions() -> None:
    atari = EnvironmentSettings(id="ALE/Breakout-v5", atari=AtariSettings(frame_skip=4))
    assert rendering.frames_per_second(atari, {"render_fps": 30}) == 15.0
    repeated = EnvironmentSettings(id="Toy-v0", action_repeat=2)
    assert rendering.frames_per_second(repeated, {"render_fps": 50}) == 25.0
    assert rendering.frames_per_second(SETTINGS, {"render_fps": None}) == rendering.DEFAULT_FPS


def test_mujoco_without_libraries_gets_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "has_display", lambda: False)
    monkeypatch.setattr(rendering, "gl_backend_works", lambda backend: False)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with pytest.raises(UsageError, match="libosmesa6"):
        rendering.prepare_offscreen(EnvironmentSettings(id="Humanoid-v5"))
    rendering.prepare_offscreen(EnvironmentSettings(id="CartPole-v1"))


def test_mujoco_takes_the_first_backend_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(rendering, "has_display", lambda: False)
    monkeypatch.setattr(rendering, "gl_backend_works", lambda backend: backend == "osmesa")
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    rendering.prepare_offscreen(EnvironmentSettings(id="Humanoid"))
    assert os.environ["MUJOCO_GL"] == "osmesa"


def test_actions_have_the_spaces_types() -> None:
    assert isinstance(to_action(np.array([2])[0], spaces.Discrete(3)), np.integer)
    small = spaces.Discrete(3, dtype=np.int32)
    assert small.contains(to_action(np.array([2])[0], small))
    scalar = to_action(np.float64(0.5), spaces.Box(-1, 1, ()))
    assert scalar.shape == () and scalar.dtype == np.float32
    assert spaces.MultiBinary(2).contains(to_action(np.array([1, 0]), spaces.MultiBinary(2)))


def test_batches_of_nested_observations() -> None:
    batch = batch_of_one({"a": 1, "b": (np.zeros(2), 3)})
    assert batch["a"].shape == (1,) and batch["b"][0].shape == (1, 2) and batch["b"][1].shape == (1,)


def test_true_returns_on_a_real_environment() -> None:
    class Left:
        def reset(self, seed: int) -> None: ...

        def act(self, observations: Any, deterministic: bool) -> Any:
            return np.zeros(len(observations), np.int64)

    settings = EnvironmentSettings(id="CartPole-v1")
    result = evaluate(Left(), settings, episodes=3, seed=11)
    env, expected = gym.make("CartPole-v1"), []
    for seed in (11, 12, 13):
        env.reset(seed=seed)
        length, over = 0, False
        while not over:
            _, _, terminated, truncated, _ = env.step(0)
            length, over = length + 1, terminated or truncated
        expected.append(Episode(float(length), length))
    assert list(result.episodes) == expected
