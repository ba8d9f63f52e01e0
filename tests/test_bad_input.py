"""Environments and folders that can't be trusted: named in a line or two, and nothing is lost."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import pytest
from gymnasium import spaces

from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.runs.run_folder import RunFolder
from tests.command_line import SMALL, iterations, latest, rows, run, spawn, toy
from tests.toys import FOLDER, UNSUPPORTED

# 4 environments of 32 steps an iteration: step 45 of each is in the second, after a checkpoint.
SAVED = 4 * (32 - 1)
"""Timesteps of the first iteration, in which each environment has one automatic reset."""

FAULTS = {
    "raise": "environment 0, step 45, step: ZeroDivisionError: the wheel came off",
    "raise_in_reset": "environment 0, step 63, reset: RuntimeError: the track is flooded",
    "nan_reward": "environment 0, step 45, reward: nan",
    "text_reward": "environment 0, step 45, reward: str 'much' is not a number",
    "nan_observation": "environment 0, step 45, observation[1]: nan is not a finite number",
    "infinite_observation": "environment 0, step 45, observation[2]: inf is not a finite number",
    "shape": "environment 0, step 45, observation: shape [4], but its space has [3]",
    "dtype": "environment 0, step 45, observation: dtype",
    "flag": "environment 0, step 45, truncated: str 'yes' is not a bool",
    "three_values": "environment 0, step 45, step: returned something other than",
}


def faulty(fault: str, at: int = 45) -> list[str]:
    return [
        f"--set=environment.arguments.fault={fault}",
        f"--set=environment.arguments.at={at}",
        "--set=checkpoint_seconds=0",
    ]


@pytest.mark.parametrize("fault", FAULTS)
def test_an_environment_that_breaks_is_named(fault: str, tmp_path: Path) -> None:
    done = run(*toy(tmp_path, *faulty(fault)))
    assert done.status == 1
    assert FAULTS[fault] in done.err
    if fault.startswith("raise"):  # with the environment's own lines, and a file with all of them
        first, frame, file = done.complaint
        kept = tmp_path / FOLDER / "environment_error.txt"
        assert FAULTS[fault] in first and "toys.py:" in frame and "raise " in frame and str(kept) in file
        assert "Traceback" in kept.read_text()
    else:
        assert len(done.complaint) <= 2
    # What was reached before is whole.
    assert (latest(tmp_path).timesteps, latest(tmp_path).notes) == (SAVED, ())
    assert iterations(tmp_path) == [1]


@pytest.mark.parametrize(
    ("friend", "how"),
    [
        ("Exits", "sys.exit(0) was called"),
        ("Presses", "KeyboardInterrupt was raised, though nobody pressed Ctrl-C,"),
    ],
)
def test_a_friend_cannot_end_a_training_in_silence(friend: str, how: str, tmp_path: Path) -> None:
    done = run(*toy(tmp_path, f"--with=tests.toys:{friend}"))
    assert done.status == 1 and done.complaint[0] == f"{how} in the midst of training."
    assert "toys.py:" in done.complaint[1]


@pytest.mark.slow
def test_a_process_of_an_environment_that_dies_is_named(tmp_path: Path) -> None:
    done = spawn(*toy(tmp_path, *faulty("die"), "--set=environment.backend=async"))
    assert done.status == 1
    assert len(done.complaint) <= 2 and "(exit code 9), step 45: its process died" in done.err
    assert latest(tmp_path).timesteps == SAVED


def test_a_broken_environment_in_a_test(tmp_path: Path) -> None:
    assert run(*toy(tmp_path, *faulty("nan_reward", at=1000), timesteps=100)).status == 0
    settings = "--set=environment.arguments.at=3"
    done = run(*toy(tmp_path, settings, "--num_test_runs=1"))
    # The saved state is of other arguments, so they are refused: not even the test begins.
    assert done.status == 2 and "environment.arguments.at is 3 (saved: 1000)" in done.err


def test_a_mistake_in_a_friend_shows_where_it_is(tmp_path: Path) -> None:
    done = run(*toy(tmp_path, "--with=tests.toys:Broken"))
    assert done.status == 1
    assert "at iteration 1:" in done.err and "LookupError: friendless" in done.err and "toys.py" in done.err


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_spaces_are_refused_before_anything_starts(name: str, tmp_path: Path) -> None:
    done = run("-e", f"tests.toys:{name}-v0", "--state_path", tmp_path / "state", *SMALL)
    assert done.status == 2
    assert len(done.complaint) <= 2
    (space,) = UNSUPPORTED[name].values()
    inner = space["word"] if isinstance(space, spaces.Dict) and len(space) else space
    assert str(inner) in done.err or type(inner).__name__ in done.err, done.err
    assert not (tmp_path / "state").exists()


def test_a_folder_that_cant_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(*toy(tmp_path / "file"))
    assert (done.status, len(done.complaint)) == (2, 2)
    assert "can't be written: Not a directory" in done.err and "--state_path" in done.err


def test_two_jobs_in_one_folder(tmp_path: Path) -> None:
    with RunFolder(tmp_path / FOLDER).lock(SoloCommunicator()):
        done = run(*toy(tmp_path))
    assert (done.status, len(done.complaint)) == (2, 2)
    assert f"Another job is writing to {tmp_path / FOLDER}: process " in done.err
    assert run(*toy(tmp_path, timesteps=128)).status == 0


LARGE = "--set=network.critic_hidden=128,128"
"""Makes a checkpoint of over 200 kB."""


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


@pytest.mark.slow
def test_a_full_disk_keeps_the_earlier_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files gives the same error of the system as a full disk."""
    assert run(*toy(tmp_path, LARGE, timesteps=240)).status == 0
    before = latest(tmp_path)
    done = spawn(*toy(tmp_path, LARGE, "--set=checkpoint_seconds=0", timesteps=600), preexec_fn=limit_files)
    assert done.status == 1
    assert "timesteps can't be written" in done.err and "File too large" in done.err
    assert "Earlier checkpoints are intact" in done.err and len(done.complaint) <= 2
    # Those in between were tried as well, and training went on.
    assert done.out.count("can't be written") == 3 and iterations(tmp_path) == [1, 2, 3, 4, 5]
    assert (latest(tmp_path).manifest, latest(tmp_path).notes) == (before.manifest, ())
    assert run(*toy(tmp_path, LARGE, timesteps=600)).status == 0
    assert iterations(tmp_path) == [1, 2, 3, 4, 5] and latest(tmp_path).timesteps >= 600


class TestDamage:
    """Of two checkpoints, at 256 and 512 timesteps (less the reset rows)."""

    @pytest.fixture
    def state(self, tmp_path: Path) -> Path:
        assert run(*toy(tmp_path, timesteps=640)).status == 0
        assert run(*toy(tmp_path, timesteps=1000)).status == 0
        assert len(self.checkpoints(tmp_path)) == 2
        return tmp_path

    @staticmethod
    def checkpoints(state: Path) -> list[Path]:
        return sorted(path for path in (state / FOLDER / "checkpoints").iterdir() if path.is_dir())

    @staticmethod
    def damage(checkpoint: Path, how: str) -> None:
        if how == "missing":
            (checkpoint / "tensors.safetensors").unlink()
            return
        name = "state.json" if how == "edited" else "tensors.safetensors"
        data = bytearray((checkpoint / name).read_bytes())
        if how == "truncated":
            del data[-100:]
        elif how == "flipped":
            data[len(data) // 2] ^= 1
        else:
            data = bytearray(data.replace(b'"iteration": ', b'"iteration": 1'))
        (checkpoint / name).write_bytes(data)

    @pytest.mark.parametrize(
        ("how", "said"),
        [
            ("missing", "tensors.safetensors is missing"),
            ("truncated", "tensors.safetensors: it has"),
            ("flipped", "tensors.safetensors: it doesn't match its checksum"),
            ("edited", "state.json"),
        ],
    )
    def test_a_damaged_checkpoint_is_passed_over_loudly(self, state: Path, how: str, said: str) -> None:
        older, newer = self.checkpoints(state)
        steps = int(older.name)
        self.damage(newer, how)
        done = run(*toy(state, timesteps=1400))
        assert done.status == 0, done.err
        assert f"Checkpoint {newer} is damaged: {said}" in done.out
        assert f"Falling back to the checkpoint at {steps} timesteps" in done.out
        numbers = iterations(state)
        assert numbers == list(range(1, len(numbers) + 1))
        assert latest(state).notes == ()

    def test_a_test_passes_it_over_too(self, state: Path) -> None:
        older, newer = self.checkpoints(state)
        self.damage(newer, "flipped")
        done = run(*toy(state, "--num_test_runs=1"))
        assert done.status == 0 and f"Checkpoint {newer} is damaged" in done.err
        assert f"at {int(older.name)} timesteps" in done.err

    def test_none_left_is_refused(self, state: Path) -> None:
        for checkpoint in self.checkpoints(state):
            self.damage(checkpoint, "flipped")
        before = rows(state)
        for more in ((), ("--num_test_runs=1",)):
            done = run(*toy(state, *more, timesteps=2000))
            assert done.status == 1 and "Traceback" not in done.err
            assert done.err.count("is damaged") == 2 and "Use --clobber to start over" in done.err
        assert rows(state) == before
        assert run(*toy(state, "--clobber", timesteps=128)).status == 0
        assert iterations(state) == [1, 2] or iterations(state) == [1]


DIFFERENT = [
    ("--set=network.actor_hidden=8", "network.actor_hidden is [8] (saved: [16])"),
    ("--set=network.activation=relu", "network.activation is 'relu' (saved: 'tanh')"),
    ("--set=environment.arguments.size=5", "environment.arguments.size is 5"),
    ("--set=environment.action_repeat=2", "environment.action_repeat is 2 (saved: 1)"),
    ("--set=precision=float64", "precision is 'float64' (saved: 'float32')"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("trained")
    assert run(*toy(state, timesteps=128)).status == 0
    return state


@pytest.mark.parametrize(("setting", "said"), DIFFERENT)
@pytest.mark.parametrize("more", ["--num_timesteps=128", "--num_timesteps=2000", "--num_test_runs=1"])
def test_a_state_that_doesnt_fit_is_refused(setting: str, said: str, more: str, trained: Path) -> None:
    done = run(*toy(trained, setting), more)
    assert (done.status, len(done.complaint)) == (2, 2)
    assert said in done.err and "--clobber" in done.err
    assert iterations(trained) == [1, 2] or iterations(trained) == [1]


def test_a_state_of_other_spaces_is_refused(trained: Path, tmp_path: Path) -> None:
    """The same folder, id and arguments, but the environment itself has changed."""
    from ppo_and_friends.errors import IncompatibleState
    from ppo_and_friends.runs.checkpoint_contents import check_identity

    found = latest(trained)
    asked = {**found.state["identity"], "action_space": {"kind": "Discrete", "n": 3, "start": 0}}
    with pytest.raises(IncompatibleState, match=r"action_space.n is 3 \(saved: 2\).*\n.*--clobber"):
        check_identity(found, asked)


def test_other_settings_are_taken_when_they_are_accepted(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / FOLDER, tmp_path / FOLDER)
    arguments = toy(tmp_path, "--set=ppo.learning_rate=1e-3:0", "--with=KLEarlyStop", timesteps=300)
    refused = run(*arguments)
    assert refused.status == 2 and "KLEarlyStop is new" in refused.err
    done = run(*arguments, "--accept_changes")
    assert done.status == 0, done.err
