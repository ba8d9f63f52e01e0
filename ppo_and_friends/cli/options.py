"""The command line's options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from ppo_and_friends.reporting.labels import Labels


def integer(text: str) -> int:
    """A whole number as people write it: ``100000``, ``100_000`` or ``1e5``.

    Raises:
        ValueError: It isn't one.
    """
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
        if number.is_integer():
            return int(number)
    except ValueError:
        pass
    raise ValueError(f"{text!r} is not an integer")


def _integer_of(words: list[str]) -> Any:
    return integer(words[0])


def _number_of(words: list[str]) -> float:
    try:
        return float(words[0])
    except ValueError:
        raise ValueError(f"{words[0]!r} is not a number") from None


def _project_of(words: list[str]) -> str:
    if len(words) > 1:
        raise ValueError(f"one project, not {' '.join(words)!r}")
    return words[0] if words else "ppo-and-friends"


def _name_of(words: list[str]) -> str:
    if len(words) > 1:
        raise ValueError(f"one name, not {' '.join(words)!r}")
    return words[0] if words else ""


_COUNT: PrimitiveConstructorSpec[Any] = PrimitiveConstructorSpec(
    nargs=1,
    metavar="N",
    instance_from_str=_integer_of,
    is_instance=lambda value: value is None or isinstance(value, int),
    str_from_instance=lambda value: [str(value)],
)
_NUMBER: PrimitiveConstructorSpec[Any] = PrimitiveConstructorSpec(
    nargs=1,
    metavar="NUMBER",
    instance_from_str=_number_of,
    is_instance=lambda value: value is None or isinstance(value, int | float),
    str_from_instance=lambda value: [str(value)],
)
_PROJECT: PrimitiveConstructorSpec[Any] = PrimitiveConstructorSpec(
    nargs="*",
    metavar="[PROJECT]",
    instance_from_str=_project_of,
    is_instance=lambda value: value is None or isinstance(value, str),
    str_from_instance=lambda value: [str(value)],
)
_RUN_NAME: PrimitiveConstructorSpec[Any] = PrimitiveConstructorSpec(
    nargs="*",
    metavar="[NAME]",
    instance_from_str=_name_of,
    is_instance=lambda value: value is None or isinstance(value, str),
    str_from_instance=lambda value: [str(value)],
)
_RUNS: PrimitiveConstructorSpec[Any] = PrimitiveConstructorSpec(
    nargs="*",
    metavar="[RUN ...]",
    instance_from_str=lambda words: tuple(Path(word) for word in words),
    is_instance=lambda value: value is None or isinstance(value, tuple),
    str_from_instance=lambda value: [str(each) for each in value or ()],
)
_UNSAID = tyro.conf.arg(help_behavior_hint="")
"""For options that are off, or the launcher's, if unset: "(default: None)" would say nothing."""

BEST = "best"
"""Names the run's best policy, instead of a folder."""

Count = Annotated[int | None, _COUNT, _UNSAID]
Number = Annotated[float | None, _NUMBER]
Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff, _UNSAID]
Choice = Literal["best", "worst", "median", "all"]
Texts = tyro.conf.UseAppendAction[tuple[str, ...]]


@dataclass(frozen=True)
class Options:
    """Train an agent with PPO, or test a trained one.

    The same command runs on one core, under mpirun and under srun. Running it again resumes where the
    last run stopped, up to the requested number of timesteps. Unset options keep the launcher's defaults.
    """

    environment: Annotated[
        str | None, tyro.conf.arg(aliases=("-e",), metavar="NAME", help_behavior_hint="")
    ] = None
    """A launcher (CartPole), a versioned id (BipedalWalker-v3), any registered Gymnasium id, or your own
    launcher or environment, as module:name or path/to/file.py:name."""

    num_timesteps: Count = None
    """Agent steps of the whole run, over all ranks and resumes."""

    num_envs: Count = None
    """Environments over all ranks."""

    random_seed: Count = None
    """Seed of all random numbers in the run."""

    state_path: Path = Path("saved_states")
    """Runs are kept in STATE_PATH/<launcher name>."""

    run_name: Annotated[str | None, _RUN_NAME, _UNSAID] = None
    """Keep this run beside others of its launcher, in STATE_PATH/<launcher name>-NAME. In NAME, {seed},
    {changes} and settings such as {ppo.gamma} are filled in; without NAME, it is {changes}-seed={seed}."""

    clobber: Switch = False
    """Start over: remove the saved run of this environment first."""

    accept_changes: Switch = False
    """Resume the saved run although settings that define it have changed."""

    exact_resume: Switch = False
    """Save the states of the environments with each checkpoint, and resume from them, so that a resumed run
    equals the uninterrupted one bit for bit."""

    device: Annotated[str | None, tyro.conf.arg(metavar="DEVICE", help_behavior_hint="")] = None
    """Device of the networks: cpu, cuda or auto (CUDA for images, if available)."""

    set: Annotated[Texts, tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Change any setting, such as ppo.clip_range=0.1, network.actor_hidden=64,64 or
    ppo.learning_rate=1e-3:0."""

    with_: Annotated[Texts, tyro.conf.arg(name="with", metavar="FRIEND")] = ()
    """Add a friend, such as KLEarlyStop:target=0.02 or my_package.my_module:MyFriend."""

    without: Annotated[Texts, tyro.conf.arg(metavar="FRIEND")] = ()
    """Remove one of the launcher's friends."""

    version: Switch = False
    """Show the version, and those of the libraries."""

    list: Switch = False
    """Show all launchers."""

    list_friends: Switch = False
    """Show all friends with their arguments and sources."""

    eval_every: Count = None
    """Evaluate the policy every N timesteps during training, and keep the best one (in best/)."""

    eval_episodes: Count = None
    """Episodes of such an evaluation (default: 10)."""

    target_score: Annotated[Number, tyro.conf.arg(metavar="SCORE", help_behavior_hint="")] = None
    """End the training when such an evaluation's mean score reaches this."""

    video_every: Count = None
    """Record an episode every N timesteps while training, into videos/ in the run's folder."""

    num_test_runs: Count = None
    """Test the saved policy for N episodes on the canonical environment instead of training."""

    policy: Annotated[str | None, tyro.conf.arg(metavar="WHICH", help_behavior_hint="")] = None
    """Test or export a policy other than the run's last: best (in the run's best/, see --eval_every), or any
    run's folder, its best/, or one of its checkpoints; with a folder, -e isn't needed."""

    pretrained: Switch = False
    """Test the policy that comes with the project instead of your own."""

    opponent: Annotated[str | None, tyro.conf.arg(metavar="WHO", help_behavior_hint="")] = None
    """In a test of a policy that several agents share, let it play one of them, in turn, against random, or
    against the policy in a run's folder or one of its checkpoints, which then both sample their actions."""

    test_explore: Switch = False
    """In a test, sample actions from the policy instead of taking the most probable ones."""

    render: Switch = False
    """In a test, open a window."""

    render_gif: Switch = False
    """In a test, write an episode to episode.gif in the run's folder; needs no display."""

    video: Annotated[str | None, tyro.conf.arg(metavar="WHAT", help_behavior_hint="")] = None
    """In a test, write the best, worst or median episode, or all, to the run's folder as .mp4; or give a
    file (.gif or .mp4); needs no display."""

    video_episode: Annotated[
        Choice | None, tyro.conf.arg(metavar="{best,worst,median,all}", help_behavior_hint="")
    ] = None
    """Which episode to write, if --video names a file, or with --render_gif (default: best)."""

    video_steps: Count = None
    """How many steps of an episode to write, the first ones (unset: two minutes at most)."""

    export: Annotated[Literal["onnx"] | None, tyro.conf.arg(metavar="FORMAT", help_behavior_hint="")] = None
    """Write the saved policy to policy.onnx in the run's folder, with normalisation and scaling in it."""

    plot: Annotated[tuple[Path, ...] | None, _RUNS, _UNSAID] = None
    """Plot the runs in these folders, as PNG and as an interactive page; seeds are averaged. With -e in place
    of folders, all saved runs of that launcher."""

    plot_column: Annotated[str, tyro.conf.arg(metavar="COLUMN")] = "episode_return_mean"
    """What to plot: any column of progress.csv."""

    plot_axis: Literal["timesteps", "seconds"] = "timesteps"
    """The horizontal axis."""

    plot_file: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """The plot's file, such as curves.png; unset: beside the runs."""

    report: Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="")] = None
    """Write report.html into a run's folder: settings, curves, test and video on one page."""

    trust: Switch = False
    """Allow loading a saved experiment that contains code (lambdas, local classes)."""

    grace: Annotated[Number, tyro.conf.arg(metavar="SECONDS", help_behavior_hint="")] = None
    """How long the job lives on after a signal that ends it: a rollout that would take longer is given up, to
    save in time. Not given: as Slurm says, if it started the job."""

    requeue_on_preemption: Switch = False
    """Have Slurm queue the job again after USR1, USR2 or TERM made it save (its time limit, a job of higher
    priority), unless somebody cancelled it. Does nothing elsewhere."""

    stall_timeout: Annotated[float, _NUMBER, tyro.conf.arg(metavar="SECONDS")] = 1800.0
    """End the job, and say where each rank stands, when nothing was done for so long: an environment that
    never returns, a stopped rank, a file system that blocks. 0: never."""

    tensorboard: Annotated[bool, _UNSAID] = True
    """Write TensorBoard event files."""

    wandb: Annotated[str | None, _PROJECT, _UNSAID] = None
    """Log to Weights & Biases, into this project (ppo-and-friends if none is given), or ENTITY/PROJECT."""

    mlflow: Annotated[str | None, _PROJECT, _UNSAID] = None
    """Log to MLflow, into this experiment (ppo-and-friends if none is given), where its own
    MLFLOW_TRACKING_URI says."""

    track_group: Annotated[str | None, tyro.conf.arg(metavar="GROUP", help_behavior_hint="")] = None
    """With --wandb or --mlflow: what the run belongs to, instead of the launcher's name."""

    track_tags: Annotated[Texts, tyro.conf.arg(metavar="TAG")] = ()
    """With --wandb or --mlflow: words to filter runs by."""

    track_notes: Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="")] = None
    """With --wandb or --mlflow: a description of the run."""

    report_to: Annotated[Texts, tyro.conf.arg(metavar="REPORTER")] = ()
    """Add your own reporter, such as my_package.my_module:MyReporter or path/to/file.py:MyReporter."""

    verbose: Annotated[Switch, tyro.conf.arg(aliases=("-v",), help_behavior_hint="")] = False
    """Print every iteration with all its numbers."""

    quiet: Annotated[Switch, tyro.conf.arg(aliases=("-q",), help_behavior_hint="")] = False
    """Print warnings and errors only."""

    @property
    def watching_friends(self) -> tuple[str, ...]:
        """The friends that test and film the policy while it is trained, as ``--with`` has them."""
        asked = {"every": self.eval_every, "episodes": self.eval_episodes, "target": self.target_score}
        given = ",".join(f"{name}={value}" for name, value in asked.items() if value is not None)
        friends = [f"Evaluator:{given}", "BestPolicyKeeper"] if given else []
        if self.video_every is not None:
            friends.append(f"VideoRecorder:every={self.video_every}")
        return tuple(friends)

    @property
    def labels(self) -> Labels:
        """What trackers are told about the run."""
        return Labels(self.track_group, self.track_tags, self.track_notes)

    @property
    def of_runs(self) -> bool:
        """Whether it is about runs that are there, given by their folders."""
        return self.plot is not None or self.report is not None

    @property
    def verbosity(self) -> int:
        """-1, 0 or 1."""
        return int(self.verbose) - int(self.quiet)
