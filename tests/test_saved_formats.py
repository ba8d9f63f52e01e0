"""Runs that were saved in an earlier format can be tested, loaded and gone on with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppo_and_friends import load_policy
from ppo_and_friends.common.metric import RENAMED_METRICS
from ppo_and_friends.errors import UsageError
from ppo_and_friends.runs.saved_experiment import load_experiment
from ppo_and_friends.settings.experiment import Schedule, linear
from ppo_and_friends.settings.migration import FORMAT, renamed
from tests.command_line import latest, read_json, rows, run

SAVED = Path(__file__).parent / "fixtures"
EXPECTED: dict[str, dict[str, Any]] = {
    f"{path.parent.name}/{place}": expected
    for path in sorted(SAVED.glob("format-*/expected.json"))
    for place, expected in read_json(path).items()
}

SINCE_FORMAT_2 = (
    "--num_envs=8",
    "--random_seed=3",
    "--eval_every=1000",
    "--eval_episodes=2",
    "--set=network.actor_hidden=8,8",
    "--set=network.critic_hidden=8,8",
    "--set=ppo.rollout_timesteps=512",
    "--set=ppo.epochs=4",
    "--set=ppo.minibatch_size=128",
    "--set=ppo.gamma=0.98",
    "--set=ppo.gae_lambda=0.9",
    "--set=ppo.learning_rate=3e-3:0",  # the launcher's own then
    "--without=RewardScale",  # which the launcher didn't have
    "--set=ppo.clip_range=0.2:0.1:cosine",
    "--set=ppo.entropy_coefficient=0.01,0.001@episode_return_mean_100>=20",
    "--with=ObservationNormalizer",
    "--with=RewardClip:low=-1:-2",
    "--with=ValueNormalizer",
    "--with=ICM:hidden=[8],features=4",
    "--with=KLEarlyStop:target=0.05",
)

OPTIONS = {
    "format-2/CartPole": SINCE_FORMAT_2,
    "format-3/CartPole": SINCE_FORMAT_2,
    "format-1/CartPole": (
        "--without=RewardScale",
        "--set=ppo.minibatch_size=256",
        "--num_envs=8",
        "--random_seed=3",
        "--eval_every=2000",
        "--eval_episodes=2",
        "--set=network.actor_hidden=8,8",
        "--set=network.critic_hidden=8,8",
        "--set=network.activation=relu",
        "--set=ppo.clip_range=0.2:0.1",
        "--set=ppo.learning_rate=3e-3,1.5e-3@2000,7.5e-4@3000",
        "--set=ppo.rollout_timesteps=512",
        "--set=ppo.epochs=8",
        "--set=ppo.gamma=0.98",
        "--set=ppo.gae_lambda=0.9",
        "--set=ppo.entropy_coefficient=0.01,0.001@episode_return_mean_100>=100",
        "--set=ppo.value_clip_range=0.5",
        "--with=ObservationNormalizer",
        "--with=ObservationClip:limit=5",
        "--with=RewardClip:low=-0.5:-1",
        "--with=ValueNormalizer",
        "--with=KLEarlyStop:target=0.05",
    ),
    "format-1/Pendulum": (
        "--random_seed=3",
        "--set=ppo.rollout_timesteps=512",
        "--set=ppo.epochs=3",
        "--set=network.actor_hidden=8",
        "--set=network.critic_hidden=8,8",
        "--set=network.log_std_init=-0.5",
        "--set=network.squash=true",
        "--set=network.actor_output_gain=0.5",
        "--set=ppo.max_grad_norm=none",
        "--with=ObservationNormalizer",
        "--with=StdClip:limit=0.6:0.2",
        "--with=AdaptiveLearningRate:target=0.02:0.01",
        "--with=RewardClip:low=-1,high=0",
        "--with=PopArt",
    ),
}
"""What asks for these runs on today's command line. How they were made is in the fixtures' READMEs."""

COMPLAINTS = ("has no saved state", "moments are reset", "is not used now")
"""What a run's notes say where something that is saved isn't taken over."""

every_run = pytest.mark.parametrize("saved", OPTIONS)


def copy_of(saved: str, tmp_path: Path) -> tuple[Path, str]:
    """A copy, since testing and training write there: what ``--state_path`` and ``-e`` take."""
    format, _, name = saved.partition("/")
    return Path(shutil.copytree(SAVED / format, tmp_path / "saved")), name


def test_every_format_has_a_run() -> None:
    found = {read_json(SAVED / saved / "experiment.json").get("format", 1) for saved in OPTIONS}
    assert found == set(range(1, FORMAT + 1)), "save a small run of the new format: tests/fixtures"


@every_run
def test_it_can_be_tested(saved: str, tmp_path: Path) -> None:
    state_path, name = copy_of(saved, tmp_path)
    done = run("-e", name, "--state_path", state_path, "--num_test_runs", "2")
    assert done.status == 0 and not done.complaint
    assert (state_path / name / "test_scores.json").is_file()


@pytest.mark.parametrize("place", EXPECTED)
def test_the_policy_acts_as_it_did(place: str) -> None:
    expected = EXPECTED[place]
    policy = load_policy(SAVED / place)
    assert policy.timesteps == expected["timesteps"]
    actions = policy(np.asarray(expected["observations"], np.float32))
    np.testing.assert_allclose(actions, expected["actions"], rtol=1e-4, atol=1e-5)


@every_run
@pytest.mark.parametrize("change", [(), ("--set=kernels=plain",)], ids=["", "plain"])
def test_training_goes_on(change: tuple[str, ...], saved: str, tmp_path: Path) -> None:
    state_path, name = copy_of(saved, tmp_path)
    before = latest(state_path, name)
    old_rows = [renamed(row, RENAMED_METRICS) for row in rows(state_path, name)]
    asked = before.timesteps + 100
    options = ("--no_tensorboard", f"--num_timesteps={asked}", *OPTIONS[saved], *change)
    done = run("-e", name, "--state_path", state_path, *options)
    assert done.status == 0 and not done.complaint
    assert not [words for words in COMPLAINTS if words in done.out], done.out
    after, new_rows = latest(state_path, name), rows(state_path, name)
    assert after.timesteps >= asked
    assert after.state["iteration"] == before.state["iteration"] + 1
    assert len(new_rows) == len(old_rows) + 1
    for old, new in zip(old_rows, new_rows, strict=False):
        assert {column: new[column] for column in old} == old
    gone = {name for name in before.tensors if name.endswith("Annealing.reached")}  # schedules now
    assert after.tensors.keys() == before.tensors.keys() - gone


def test_an_experiment_that_was_saved_as_code_becomes_todays() -> None:
    folder = SAVED / "format-1" / "Pickled"
    with pytest.raises(UsageError, match="--trust"):
        load_experiment(folder)
    experiment = load_experiment(folder, trust=True)
    assert experiment.ppo.gamma == 0.9 and experiment.ppo.max_grad_norm is None
    assert experiment.ppo.clip_range == linear(0.3, 0.05)  # what ClipAnnealing and the setting made together
    assert experiment.network.log_std_init == -0.5 and experiment.reward_threshold == 3.0
    (clip,) = experiment.friends
    assert clip.name == "RewardClip" and Schedule(**clip.arguments["low"]) == linear(-0.5, -2.0)
    assert experiment.environment.factory is not None
    assert experiment.environment.factory().spec.id == "CartPole-v1"
