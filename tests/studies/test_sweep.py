"""Which runs a study has, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from ppo_and_friends.errors import UsageError
from ppo_and_friends.studies.sweep import Changes, Sweep, as_sweep, load_sweep, parse_grid, parse_seeds
from tests.command_line import run


def test_seeds():
    assert parse_seeds("1-3,7,2") == [1, 2, 3, 7]  # each once


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-", "-1", "1-1000000"])
def test_seeds_that_are_none(text: str):
    with pytest.raises(UsageError, match="write them as 1-5"):
        parse_seeds(text)


def test_grid_splits_at_commas_outside_brackets():
    assert parse_grid(["ppo.gamma=0.99, 0.995", "network.actor_hidden=[64,64],[32]"]) == {
        "ppo.gamma": ("0.99", "0.995"),
        "network.actor_hidden": ("[64,64]", "[32]"),
    }


@pytest.mark.parametrize("text", ["ppo.gamma", "ppo.gamma=", "=1", "ppo.gamma=1,,2"])
def test_grid_that_is_none(text: str):
    with pytest.raises(UsageError, match="name=value"):
        parse_grid([text])
    with pytest.raises(UsageError, match="twice"):
        parse_grid(["ppo.gamma=1", "ppo.gamma=2"])


def test_points_are_all_combinations_of_variants_and_grid():
    sweep = Sweep(
        environment="CartPole",
        set={"ppo.epochs": 3},
        grid={"ppo.gamma": (0.9, 0.99)},
        variants={"plain": Changes(), "curious": Changes(with_=("RND",))},
    )
    assert sweep.points() == {
        "plain,gamma=0.9": ["--set=ppo.epochs=3", "--set=ppo.gamma=0.9"],
        "plain,gamma=0.99": ["--set=ppo.epochs=3", "--set=ppo.gamma=0.99"],
        "curious,gamma=0.9": ["--set=ppo.epochs=3", "--with=RND", "--set=ppo.gamma=0.9"],
        "curious,gamma=0.99": ["--set=ppo.epochs=3", "--with=RND", "--set=ppo.gamma=0.99"],
    }


def test_names_are_folders_and_never_two_of_one():
    grid = {"ppo.learning_rate": ("1e-3:0",), "a.x": (1,), "b.x": (2,)}
    (name,) = Sweep(environment="E", grid=grid).points()
    assert name == "learning_rate=1e-3_0,a.x=1,b.x=2"
    long = Sweep(environment="E", grid={"ppo.learning_rate": (f"{'1' * 120}", f"{'1' * 120}0")}).points()
    assert len(long) == 2 and max(map(len, long)) == 100
    assert list(Sweep(environment="E").points()) == ["default"]
    assert list(Sweep(environment="E", set={"ppo.gamma": 0.9}).points(full_names=True)) == ["gamma=0.9"]


def test_a_file_and_a_program_describe_the_same(tmp_path: Path):
    (tmp_path / "one.yaml").write_text("environment: CartPole\nseeds: 1-2\nwith: [RND]\n")
    (tmp_path / "two.py").write_text(
        "def sweep():\n    return dict(environment='CartPole', seeds='1-2', with_=['RND'])\n"
    )
    one, two = load_sweep(tmp_path / "one.yaml"), load_sweep(tmp_path / "two.py")
    assert one == two == Sweep(environment="CartPole", seeds="1-2", with_=("RND",))
    assert one.all_seeds() == [1, 2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seeds: 1-2", "environment: Field required"),
        ("environment: CartPole\nsedes: 3", "sedes"),
        ("- a", "holds no study"),
        ("a: [", "can't be read"),
    ],
)
def test_a_file_that_is_none(text: str, told: str, tmp_path: Path):
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match="(?s)sweep.yaml.*" + told):
        load_sweep(path)
    with pytest.raises(UsageError, match="no file"):
        load_sweep(tmp_path / "other.yaml")


def test_a_files_function_that_raises(tmp_path: Path):
    path = tmp_path / "sweep.py"
    path.write_text("def sweep():\n    raise ValueError('two\\nlines')\n")
    with pytest.raises(UsageError, match=r"sweep.py: sweep: ValueError: two lines"):
        load_sweep(path)


@pytest.mark.parametrize("argument", ["--random-seed=3", "--run_folder=x", "--help"])
def test_what_a_study_gives_its_runs_is_refused_in_its_arguments(argument: str, tmp_path: Path):
    path = tmp_path / "sweep.yaml"
    path.write_text(f"environment: CartPole\narguments: ['{argument}']\n")
    done = run("study", path, "--state_path", tmp_path)
    assert done.status == 2 and f"arguments: {argument}: a study's runs have their own" in done.err


def test_values_are_checked():
    with pytest.raises(UsageError, match="the command line: grid"):
        as_sweep({"environment": "E", "grid": {"ppo.gamma": 3}}, "the command line")
    with pytest.raises(UsageError, match="no values for ppo"):
        Sweep(environment="E", grid={"ppo.gamma": ()}).points()


NONSENSE = [
    (("--jobs", "2"), "--jobs is for studies: add --seeds"),
    (("--group", "2"), "--group is for studies"),
    (("--seeds", "1-2", "--random_seed", "3"), "--random_seed is for a single run"),
    (("--seeds", "1-2", "--clobber"), "--clobber is for a single run"),
    (("--seeds", "1-2", "--jobs", "0"), "--jobs: at least 1"),
    (("--seeds", "1-2", "--jobs", "1", "--group", "1"), "give one of them"),
    (("--seeds", "1-2", "--group", "2"), "mpirun -n N python main.py ... --group 2"),
    (("--seeds", ""), "--seeds: the value is empty"),
    (("--grid", "random_seed=1,2"), "a study's seeds are given by --seeds"),
    (("--grid", "ppo.gama=1"), "Did you mean ppo.gamma"),
    (("--grid", "ppo.gamma=1.5"), "ppo.gamma=1.5"),
    (("--seeds", "1", "--with", "KLEarlyStopp"), "Did you mean KLEarlyStop"),
    (("--seeds", "1", "--slurm", "a b"), "write an option of sbatch"),
    (("--study", "sweep.yaml"), "belong in the study's file"),
]


@pytest.mark.parametrize(("arguments", "told"), NONSENSE)
def test_nonsense_is_refused_in_a_line(arguments: tuple[str, ...], told: str, tmp_path: Path):
    done = run("-e", "CartPole", "--state_path", tmp_path, *arguments)
    assert done.status == 2
    assert told in done.err
    assert len(done.complaint) == 1
    assert not list(tmp_path.iterdir())  # nothing was begun
