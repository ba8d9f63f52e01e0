"""The user's commands: what they print, write and leave behind."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from ppo_and_friends.reporting.progress_csv import COLUMNS
from tests.command_line import SMALL, latest, read_json, run, spawn, toy
from tests.toys import FOLDER, NAME

SCORES = {"environment", "timesteps", "episodes", "mean", "std", "min", "max"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state path with a trained toy and a trained CartPole."""
    state = tmp_path_factory.mktemp("trained")
    assert run(*toy(state, timesteps=256)).status == 0
    done = run("-e", "CartPole", "--num_timesteps=256", "--state_path", state, *SMALL)
    assert done.status == 0, done.err
    return state


def test_training_leaves_its_record(tmp_path: Path) -> None:
    arguments = toy(tmp_path, "--random_seed=7", timesteps=256)
    done = run(*arguments)
    assert (done.status, done.err) == (0, "")
    folder = tmp_path / FOLDER
    with open(folder / "progress.csv", newline="") as file:
        table = list(csv.reader(file))
    assert table[0][: len(COLUMNS)] == list(COLUMNS) and len(table) == 1 + 3
    record = read_json(folder / "experiment.json")
    assert record["command_line"] == arguments
    assert record["experiment"]["random_seed"] == 7
    assert record["experiment"]["ppo"]["rollout_timesteps"] == 128
    assert {"torch", "numpy", "gymnasium", "python"} <= record["versions"].keys()
    assert f"{NAME} --state_path {tmp_path} --num_test_runs 5 --render" in done.out  # how to watch it


def test_scores_are_true_whatever_friends_do(tmp_path: Path) -> None:
    """The toy gives a reward of 0 or 1 a step, and its episodes have 20 steps."""
    run(*toy(tmp_path, "--with=RewardNormalizer", "--with=RewardScale:factor=100", timesteps=640))
    with open(tmp_path / FOLDER / "progress.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["episodes"] != "0":
                assert 0 <= float(row["episode_return_min"]) <= float(row["episode_return_max"]) <= 20
                assert (
                    float(row["episode_return_max"]).is_integer() and float(row["episode_length_mean"]) == 20
                )


def test_quiet_and_verbose(tmp_path: Path) -> None:
    assert run(*toy(tmp_path, "--quiet", timesteps=256)).out == ""
    verbose = run(*toy(tmp_path, "--clobber", "-v", timesteps=256))
    assert sum(line.startswith("iteration ") for line in verbose.out.splitlines()) == 3


def test_test_runs_print_a_table_and_write_scores(trained: Path) -> None:
    done = run(*toy(trained, "--num_test_runs=3"))
    assert (done.status, done.err) == (0, "")
    assert "mean" in done.out and "deterministic" in done.out
    scores = read_json(trained / FOLDER / "test_scores.json")
    assert scores.keys() >= SCORES
    assert scores["environment"] == NAME and scores["timesteps"] == latest(trained).timesteps
    values = [episode["score"] for episode in scores["episodes"]]
    assert len(values) == 3 and {episode["length"] for episode in scores["episodes"]} == {20}
    assert scores["mean"] == pytest.approx(sum(values) / 3)
    assert (scores["min"], scores["max"]) == (min(values), max(values))
    assert scores["std"] == pytest.approx((sum((v - scores["mean"]) ** 2 for v in values) / 3) ** 0.5)


def test_test_runs_are_repeatable_and_may_explore(trained: Path) -> None:
    path = trained / FOLDER / "test_scores.json"
    seen = []
    for more in ((), (), ("--test_explore",), ("--test_explore",)):
        assert run(*toy(trained, "--num_test_runs=4", *more)).status == 0
        seen.append(read_json(path))
    assert seen[0] == seen[1] and seen[2] == seen[3]
    assert (seen[0]["deterministic"], seen[2]["deterministic"]) == (True, False)
    # An untrained policy that explores does about as many steps one way as the other.
    assert all(0 < episode["score"] < 20 for episode in seen[2]["episodes"])


def test_a_test_uses_the_saved_settings_and_the_asked_changes(trained: Path) -> None:
    """The network needs no mention; a setting that is mentioned counts."""
    short = ("-e", NAME, "--state_path", trained, "--num_test_runs=1")
    assert run(*short, "--set=environment.max_episode_steps=7").status == 0
    assert read_json(trained / FOLDER / "test_scores.json")["episodes"][0]["length"] == 7
    assert run(*short).status == 0
    assert read_json(trained / FOLDER / "test_scores.json")["episodes"][0]["length"] == 20


def test_a_test_changes_nothing_of_the_run(trained: Path) -> None:
    def files() -> dict[str, bytes]:
        paths = (path for path in (trained / FOLDER).rglob("*") if path.is_file())
        return {str(path): path.read_bytes() for path in paths if path.name != "test_scores.json"}

    before = files()
    assert run(*toy(trained, "--num_test_runs=1")).status == 0
    assert files() == before


def test_any_saved_policy_can_be_tested(tmp_path: Path) -> None:
    """The best one, that of a renamed folder, and a single checkpoint; each writes where it lies."""
    evaluated = ("--eval_every=100", "--eval_episodes=1", "--set=checkpoint_seconds=0")
    assert run(*toy(tmp_path, *evaluated, timesteps=600)).status == 0
    folder = tmp_path / FOLDER
    assert run(*toy(tmp_path, "--num_test_runs=1", "--policy=best")).status == 0
    best = read_json(folder / "best" / "test_scores.json")
    assert best["timesteps"] == int(next((folder / "best").glob("0*")).name)
    renamed = folder.rename(tmp_path / "my run")
    first = sorted((renamed / "checkpoints").glob("0*"))[0]
    for policy, home in ((renamed, renamed), (renamed / "best", renamed / "best"), (first, renamed)):
        (home / "test_scores.json").unlink(missing_ok=True)
        done = run("--policy", policy, "--num_test_runs=1")
        assert (done.status, done.err) == (0, "")
        timesteps = read_json(home / "test_scores.json")["timesteps"]
        assert timesteps == {renamed: latest(tmp_path, "my run").timesteps, first: int(first.name)}.get(
            policy, best["timesteps"]
        )
    assert not (first / "test_scores.json").exists()
    done = run(*toy(tmp_path, "--num_test_runs=1", "--policy=best"))
    assert done.status == 2 and "--eval_every N keeps one." in done.err


def test_what_comes_next_fits_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("-e", "CartPole", "--num_timesteps=100", *SMALL)
    assert done.status == 0 and max(map(len, done.out.splitlines()[-5:])) <= 80
    assert "Curves:   python main.py --plot saved_states/CartPole" in done.out  # without TensorBoard


def test_verbose_tells_all_numbers(tmp_path: Path) -> None:
    done = run(*toy(tmp_path, "-v", timesteps=256))
    blocks = done.out.split("iteration ")[1:4]
    for name in ("policy_loss ", "entropy ", "learning_rate ", "gradient_norm ", "time: environment "):
        assert all(name in block for block in blocks), name
    quiet = run(*toy(tmp_path, "--clobber", timesteps=256))
    assert "policy_loss" not in quiet.out


def test_a_window_needs_a_display(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    done = run("-e", "CartPole", "--state_path", trained, "--num_test_runs=1", "--render")
    assert (done.status, done.out) == (2, "") and len(done.complaint) <= 2
    assert "needs a display" in done.err and "--render_gif" in done.err


def test_a_gif_needs_none(trained: Path, tmp_path: Path) -> None:
    done = run("-e", "CartPole", "--state_path", trained, "--num_test_runs=1", "--render_gif")
    assert done.status == 0, done.err
    assert (trained / "CartPole" / "episode.gif").read_bytes()[:4] == b"GIF8"
    done = run("-e", "CartPole", "--state_path", trained, "--num_test_runs=1", "--video", tmp_path / "a.mp4")
    assert done.status == 0 and (tmp_path / "a.mp4").stat().st_size > 1000
    assert f"Video written to {tmp_path / 'a.mp4'}" in done.out


def test_what_cant_be_rendered_says_so(trained: Path) -> None:
    done = run(*toy(trained, "--num_test_runs=1", "--render_gif"))
    assert done.status in (1, 2) and len(done.complaint) <= 2


def test_nothing_saved_says_how_to_train(tmp_path: Path) -> None:
    done = run("-e", "BipedalWalker-v3", "--num_test_runs", "2", "--state_path", tmp_path / "no where")
    assert (done.status, done.out, len(done.complaint)) == (2, "", 1)
    command = f"python main.py -e BipedalWalker-v3 --state_path '{tmp_path / 'no where'}'"
    assert done.err.strip().endswith(f"Train one with: {command}")


@pytest.mark.parametrize("name", ["CartPole", "CartPole-v1", "cartpole"])
def test_a_launcher_has_one_folder_whatever_it_is_called(name: str, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "CartPole", tmp_path / "CartPole")
    assert run("-e", name, "--state_path", tmp_path, "--num_test_runs=1").status == 0


GENERIC = [
    pytest.param("FrozenLake-v1", "FrozenLake-v1"),
    pytest.param("Blackjack-v1", "Blackjack-v1"),  # a Tuple of Discretes
    pytest.param("CartPole-v0", "CartPole-v0"),  # an older version stays what it is
    pytest.param("Reacher-v5", "Reacher-v5", marks=pytest.mark.slow),
    pytest.param("ALE/Pong-v5", "ALE-Pong-v5", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "folder"), GENERIC)
def test_ids_without_a_launcher_train_and_test(name: str, folder: str, tmp_path: Path) -> None:
    small = [*SMALL[:2], "--set=ppo.rollout_timesteps=64", "--set=ppo.epochs=1"]
    small += ["--set=ppo.minibatch_size=64", "--set=environment.max_episode_steps=30"]
    done = run("-e", name, "--num_timesteps=100", "--state_path", tmp_path, *small)
    assert (done.status, done.err) == (0, "")
    assert latest(tmp_path, folder).state["iteration"] >= 2
    done = run("-e", name, "--num_test_runs=1", "--state_path", tmp_path)
    assert (done.status, done.err) == (0, "")
    scores = read_json(tmp_path / folder / "test_scores.json")
    assert scores["environment"].endswith(name.rpartition("/")[2]) and len(scores["episodes"]) == 1


@pytest.mark.slow
@pytest.mark.mpi
def test_the_users_commands_as_written(tmp_path: Path, mpirun_path: str) -> None:
    """In a fresh folder, with small budgets behind the user's own words."""
    walker = ["-e", "BipedalWalker-v3", "--num_timesteps=500", "--set=ppo.rollout_timesteps=256"]
    done = spawn(*walker, before=(mpirun_path, "-n", "8"), timeout=110, cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert (tmp_path / "saved_states" / "BipedalWalker" / "progress.csv").exists()
    assert done.out.count("on 8 ranks") == 1


@pytest.mark.slow
def test_the_humanoid(tmp_path: Path) -> None:
    done = spawn("-e", "Humanoid", "--num_timesteps=300", *SMALL[:4], cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    bare = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}
    done = spawn("-e", "Humanoid", "--num_test_runs", "5", "--render", cwd=tmp_path, env=bare)
    assert done.status == 2 and "--render_gif" in done.err and len(done.complaint) <= 2
    done = spawn("-e", "Humanoid", "--num_test_runs", "5", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    scores = read_json(tmp_path / "saved_states" / "Humanoid" / "test_scores.json")
    assert scores["environment"] == "Humanoid-v5" and len(scores["episodes"]) == 5


def test_what_is_recommended_is_there(tmp_path: Path) -> None:
    """No event files were written, so that TensorBoard would show nothing."""
    done = run(*toy(tmp_path, timesteps=100))
    assert "--no_tensorboard" in toy(tmp_path)
    assert "tensorboard" not in done.out and f"--plot {tmp_path / FOLDER}" in done.out
