"""The command line: what it takes, what it says, and how little it needs for that."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from ppo_and_friends.cli import listing
from ppo_and_friends.cli.command_line import USAGE, HelpShown, parse
from ppo_and_friends.cli.options import Options, integer
from ppo_and_friends.common.program import program
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.catalog import known_friends
from ppo_and_friends.settings.registry import all_launchers
from tests.command_line import latest, run, spawn
from tests.conftest import ROOT, clean_environment

CARTPOLE = ("-e", "CartPole", "--state_path", "/nowhere")

NONSENSE = [
    (("--num_timesteps", "x"), "--num_timesteps: 'x' is not an integer. See --help."),
    (("--num-timesteps", "1.5"), "--num_timesteps: '1.5' is not an integer. See --help."),
    (("--num_timesteps",), "--num_timesteps"),
    (("-e",), "--environment"),
    (("--num_timestep", "3"), "--num_timestep: no such option. Did you mean --num_timesteps,"),
    (("--num-timestep=3",), "Did you mean --num_timesteps,"),
    (("--no-tensorbord",), "Did you mean --no_tensorboard,"),
    (("-x",), "-x: no such option. See --help."),
    (("--lr", "1"), "--lr: no such option. Settings are changed by --set ppo.learning_rate=... See --help."),
    (("--gamma=1",), "--gamma: no such option. Settings are changed by --set ppo.gamma=..."),
    (("--seed", "1"), "--seed: no such option. Here that is --random_seed."),
    (("--target-kl", "1"), "Here that is a friend: --with KLEarlyStop:target=..."),
    (("--policy", "best", "-e", "CartPole"), "--policy is for tests and exports: add --num_test_runs N"),
    (("--policy=best", "--num_test_runs=1"), "Which environment? Give one with -e NAME"),
    (("--policy=/nowhere", "--num_test_runs=1"), "No trained policy in "),
    (("-e", "CartPole", "--stall_timeout=nan"), "--stall_timeout: seconds, or 0 for never, not nan."),
    (("-e", "CartPole", "--grace=inf"), "--grace: seconds, not inf."),
    (("-e", "CartPole", "--set", "agents.critic=state"), "agents.critic: CartPole-v1 has a single agent."),
    (("-e", "CartPole", "100"), "'100' belongs to no option"),
    (("--clobber=3", "-e", "CartPole"), "'3' belongs to no option"),
    (("--num_envs", "4"), "Which environment? Give one with -e NAME"),
    (("-e", "CartPol"), "unknown environment 'CartPol'. Nearest: CartPole, CartPole-v1, CartPole-v0."),
    (("-e", "CartPole-v7"), "unknown environment 'CartPole-v7'"),
    (("-e", "no_such_module_:Env-v0"), "can't import no_such_module_"),
    (("-e", "tests.toys:Env-v0"), "unknown environment 'tests.toys:Env-v0'"),
    (("-e", ""), "-e: the value is empty. See --help."),
    ((*CARTPOLE, "--num_timesteps", "0"), "num_timesteps=0: Input should be greater than 0."),
    ((*CARTPOLE, "--num_timesteps", "-5"), "num_timesteps=-5"),
    ((*CARTPOLE, "--num_envs", "0"), "environment.num_envs=0"),
    ((*CARTPOLE, "--random_seed", "-1"), "random_seed=-1"),
    ((*CARTPOLE, "--random_seed", "9223372036854775808"), "random_seed="),
    ((*CARTPOLE, "--device", "gpu"), "device='gpu': Input should be 'auto', 'cpu' or 'cuda'."),
    ((*CARTPOLE, "--set", "ppo.clip_range"), "write it as name=value"),
    ((*CARTPOLE, "--set", "ppo.clipp=0.1"), "Did you mean ppo.clip_range,"),
    ((*CARTPOLE, "--set", "ppo.clip_range=wide"), "ppo.clip_range='wide': neither a number nor START:END"),
    ((*CARTPOLE, "--set", "ppo.clip_range=nan"), "ppo.clip_range"),
    ((*CARTPOLE, "--set", "ppo.clip_range=1:2:3"), "ppo.clip_range='1:2:3': neither a number nor START:END"),
    ((*CARTPOLE, "--set", "ppo.epochs=0"), "ppo.epochs=0"),
    ((*CARTPOLE, "--set", "ppo.epochs=2.5"), "ppo.epochs=2.5"),
    ((*CARTPOLE, "--set", "ppo.gamma=1.5"), "ppo.gamma=1.5"),
    ((*CARTPOLE, "--set", "ppo.minibatch_size=-1"), "ppo.minibatch_size=-1"),
    ((*CARTPOLE, "--set", "network.activation=sin"), "network.activation='sin'"),
    ((*CARTPOLE, "--set", "network.actor_hidden=64,0"), "network.actor_hidden.1=0"),
    ((*CARTPOLE, "--set", "environment.backend=warp"), "environment.backend='warp'"),
    ((*CARTPOLE, "--set", "ppo=3"), "ppo"),
    ((*CARTPOLE, "--set", "=3"), "no such setting"),
    ((*CARTPOLE, "--set", "friends.KLEarlyStop.target=1"), "no friend 'KLEarlyStop' here"),
    ((*CARTPOLE, "--with", "KLEarlyStopp"), "Did you mean KLEarlyStop,"),
    (
        (*CARTPOLE, "--with", "KLEarlyStop:targe=1"),
        "KLEarlyStop has no argument 'targe'. It accepts: target",
    ),
    ((*CARTPOLE, "--with", "KLEarlyStop:target=high"), "target='high'"),
    (
        (*CARTPOLE, "--with", "KLEarlyStop:target"),
        "friend 'KLEarlyStop:target': its arguments are written as KLEarlyStop:name=value,name=value.",
    ),
    ((*CARTPOLE, "--with", "KLEarlyStop:"), "are written as KLEarlyStop:name=value"),
    ((*CARTPOLE, "--run_folder", ""), "--run_folder: the value is empty. See --help."),
    ((*CARTPOLE, "--state-path="), "--state-path: the value is empty. See --help."),
    (("--compare",), "--compare needs at least two folders (or quoted globs) of runs."),
    ((*CARTPOLE, "--with", "tests.toys:Toy"), "not a friend"),
    ((*CARTPOLE, "--with", "tests.toys:Nobody"), "can't be imported"),
    ((*CARTPOLE, "--without", "KLEarlyStop"), "--without KLEarlyStop: it isn't among the friends"),
    ((*CARTPOLE, "--num_test_runs", "0"), "--num_test_runs: at least 1, not 0."),
    ((*CARTPOLE, "--num_test_runs", "-1"), "--num_test_runs: at least 1, not -1."),
    ((*CARTPOLE, "--num_test_runs", "1"), "Train one with: python main.py -e CartPole"),
    ((*CARTPOLE, "--render"), "--render is for tests: add --num_test_runs N."),
    ((*CARTPOLE, "--video_episode", "all"), "--video_episode is for tests"),
    ((*CARTPOLE, "--test_explore"), "--test_explore is for tests"),
    ((*CARTPOLE, "--export", "pdf"), "--export: 'pdf' is none of: onnx. See --help."),
    ((*CARTPOLE, "--plot_axis", "hours"), "--plot_axis: 'hours' is none of: seconds, timesteps. See --help."),
    ((*CARTPOLE, "--grace", "abc"), "--grace: 'abc' is not a number. See --help."),
    ((*CARTPOLE, "--target_score", "abc"), "--target_score: 'abc' is not a number. See --help."),
    ((*CARTPOLE, "--stall_timeout", "abc"), "--stall_timeout: 'abc' is not a number. See --help."),
    ((*CARTPOLE, "--video_steps", "1.5"), "--video_steps: '1.5' is not an integer. See --help."),
    ((*CARTPOLE, "--grace"), "--grace: the value is missing. See --help."),
    (("-e",), "--environment: the value is missing. See --help."),
]


@pytest.mark.parametrize(("arguments", "said"), NONSENSE, ids=lambda value: " ".join(value)[:60])
def test_nonsense_is_refused_in_two_lines_at_most(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # away from the runs of whoever trained here before
    given = [str(tmp_path / "state") if word == "/nowhere" else word for word in arguments]
    done = run(*given)
    assert done.status == 2, done
    assert done.out == ""
    assert len(done.complaint) <= 2, done.err
    assert said in done.err
    # Nothing that looks like a run is left behind.
    for name in ("experiment.json", "progress.csv", ".lock"):
        assert not list(tmp_path.rglob(name))


def test_nothing_asked_shows_the_usage() -> None:
    done = run()
    assert (done.status, done.out, done.err.strip()) == (2, "", USAGE)
    assert len(USAGE.splitlines()) < 10


def test_underscores_and_hyphens_are_the_same() -> None:
    words = ["--num_timesteps=1e5", "--random_seed", "3", "--num_test_runs", "2", "--render_gif", "-e", "X"]
    options = parse(words)
    assert options == parse([word.replace("_", "-") for word in words])
    assert (options.num_timesteps, options.random_seed, options.render_gif) == (100_000, 3, True)
    assert (
        options.device is None and options.tensorboard and not parse(["-eX", "--no-tensorboard"]).tensorboard
    )


def test_repeated_options_add_up() -> None:
    options = parse(["-e", "X", "--set", "a=1", "--set", "b=2,3", "--with", "F", "--without", "G"])
    assert (options.set, options.with_, options.without) == (("a=1", "b=2,3"), ("F",), ("G",))


@pytest.mark.parametrize(
    ("text", "number"), [("12", 12), ("100_000", 100_000), ("1e6", 10**6), ("2.5e3", 2500), ("-3", -3)]
)
def test_integers_as_people_write_them(text: str, number: int) -> None:
    assert integer(text) == number


@pytest.mark.parametrize("text", ["", "x", "1.5", "nan", "inf", "1e-3", "0x10"])
def test_what_is_no_integer(text: str) -> None:
    with pytest.raises(ValueError, match="is not an integer"):
        integer(text)


def test_help_shows_every_option_and_no_empty_default() -> None:
    with pytest.raises(HelpShown) as shown:
        parse(["--help"])
    text = str(shown.value)
    for option in fields(Options):
        assert f"--{option.name.rstrip('_')}" in text
    assert "None" not in text and "False" not in text
    assert run("-h").out.strip() == text.strip()


@pytest.mark.parametrize("arguments", ["--help", "--list", "-e CartPol", ""])
def test_little_is_imported_before_it_is_needed(arguments: str) -> None:
    program = (
        "import sys; from ppo_and_friends.cli.main import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "heavy = ('torch', 'envpool', 'mpi4py', 'matplotlib', 'tensorboard', 'mujoco', 'cv2', 'pandas')\n"
        "print('loaded:', [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments.split()],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=30,
    )
    assert done.stdout.splitlines()[-1] == "loaded: []", done.stdout + done.stderr


def test_the_list_fits_a_terminal_and_folds_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    lines = listing.launchers(80).splitlines()
    assert max(map(len, lines)) <= 80
    for launcher in all_launchers():
        found = [line.split() for line in lines if line.split()[:1] == [launcher.name]]
        assert len(found) == 1 and found[0][1] == launcher.id.rpartition(":")[2]
    piped = run("--list").out.splitlines()
    assert len(piped) == 1 + len(all_launchers())  # a line each, however wide


def test_friends_are_listed_as_they_are_written() -> None:
    text = listing.friends(80)
    assert max(map(len, text.splitlines())) <= 80
    assert [line.partition(":")[0] for line in run("--list_friends").out.splitlines() if line[0] != " "] == (
        known_friends()
    )
    assert "[-limit, limit]" in " ".join(text.split())  # brackets are no markup
    assert "target=0.02" in text


@pytest.mark.parametrize(("count", "text"), [(60_000, "60k"), (1_500_000, "1.5M"), (10**7, "10M"), (7, "7")])
def test_short_counts(count: int, text: str) -> None:
    assert listing.short_count(count) == text


@pytest.mark.parametrize("training", [False, True])
def test_a_reader_that_leaves_early_is_no_failure(training: bool, tmp_path: Path) -> None:
    small = "--num_timesteps=9000 --set=ppo.epochs=1 --no_tensorboard"
    what = f"-e CartPole --state_path {tmp_path} -v {small}" if training else "--list_friends"
    command = f"{sys.executable} {ROOT / 'main.py'} {what} | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    if training:  # it went on to its end all the same
        assert latest(tmp_path, "CartPole").timesteps >= 9000


def test_the_package_is_a_program() -> None:
    """Its messages name it as it was called."""
    called = [sys.executable, "-m", "ppo_and_friends"]
    environment = clean_environment()
    done = subprocess.run(called, capture_output=True, text=True, env=environment, timeout=30)
    assert done.returncode == 2 and done.stderr.startswith("usage: python -m ppo_and_friends -e NAME")
    done = subprocess.run([*called, "--version"], capture_output=True, text=True, env=environment, timeout=30)
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert done.returncode == 0 and names[:2] == ["ppo-and-friends", "python"] and "torch" in names


@pytest.mark.parametrize(
    ("called", "named"),
    [
        ("/home/me/.venv/bin/ppo-and-friends", "ppo-and-friends"),
        ("/x/site-packages/ppo_and_friends/__main__.py", "python -m ppo_and_friends"),
        ("/x/site-packages/pytest/__main__.py", "python main.py"),
        ("main.py", "python main.py"),
        ("", "python main.py"),
    ],
)
def test_messages_name_the_program_as_it_was_called(
    called: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    assert program() == named
    assert run().err.startswith(f"usage: {named} -e NAME")


def test_the_status_reaches_the_shell() -> None:
    assert spawn("--help").status == 0
    done = spawn("-e", "Nope")
    assert (done.status, len(done.complaint)) == (2, 1)


def test_slurm_tasks_that_dont_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")
    done = run("-e", "CartPole")
    assert (done.status, len(done.complaint)) == (2, 2)
    assert "Slurm started 2 tasks (SLURM_NTASKS=2), but MPI sees a single rank" in done.err
    assert "srun --mpi=pmi2" in done.err
    monkeypatch.setenv("SLURM_PROCID", "1")  # only the first of them says so
    assert run("-e", "CartPole") == type(done)(2, "", "")


def test_options_are_checked_together() -> None:
    with pytest.raises(UsageError, match="--video is for tests"):
        parse(["-e", "X", "--video", "a.mp4"])
    assert parse(["--list"]).environment is None
