"""The job of a run with several policies: one for each, with its own folder, over the same environments."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

from ppo_and_friends.api.job import Job, Reporting, Snapshot, check_names, check_trackers
from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.interrupts import Interrupts
from ppo_and_friends.distributed.layout import divide
from ppo_and_friends.distributed.randomness import Randomness
from ppo_and_friends.errors import CheckpointError
from ppo_and_friends.reporting.reporter import SilentReporter
from ppo_and_friends.runs.build import build_trainer
from ppo_and_friends.runs.checkpoint import Checkpoint, load_latest
from ppo_and_friends.runs.checkpoint_contents import AGENTS, check_identity, settings_identity
from ppo_and_friends.runs.checkpoint_validity import check_contents
from ppo_and_friends.runs.joint_session import JointSession, MemberSession, common_checkpoints
from ppo_and_friends.runs.restore import restore
from ppo_and_friends.runs.resumed_settings import changes_since, refuse_another_run
from ppo_and_friends.runs.run_folder import POLICIES, RunFolder, policies_in
from ppo_and_friends.runs.saved_experiment import save_experiment
from ppo_and_friends.runs.several_policies import (
    JointCollection,
    Policies,
    PolicyTrainer,
    own_seed,
    policy_experiments,
)
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.vector.factory import make_policy_envs
from ppo_and_friends.vector.states.probe import check_environment


@dataclass
class JointJob(Job):
    """An open training of several policies."""

    members: list[Job] = field(default_factory=list)

    @property
    def timesteps(self) -> int:
        """Agent steps so far, of all policies."""
        return sum(member.timesteps for member in self.members)

    def begin_reports(self, verbosity: int) -> None:
        """Open every policy's reporters; the terminal shows the first one's iterations. A collective."""
        for member in self.members:
            member.begin_reports(verbosity)
        self.session.reporter = self.members[0].session.reporter

    def snapshots(self) -> dict[str, Snapshot]:
        """Copies of the current policies, in memory, by name."""
        return {name: each for member in self.members for name, each in member.snapshots().items()}

    def end_reports(self) -> None:
        """Report the summaries and close the reporters."""
        for member in self.members:
            member.end_reports()

    def interrupted(self, text: str) -> bool:
        """Show a message from inside a signal handler; returns whether the user will see it."""
        return self.members[0].interrupted(text)

    def close(self) -> None:
        """Release everything. Not a collective."""
        for member in self.members:
            member.close()
        self.resources.close()


def saved_policies(experiment: Experiment, folder: RunFolder) -> dict[str, Snapshot]:
    """The newest policies in a run's folder, by name, the one trained first before the others.

    Args:
        experiment: The run's. Each policy's is derived from it, so that no code in the folder is executed.
        folder: The run's.

    Returns:
        What is known of each; empty if there are none.

    Raises:
        CheckpointError: Some have a checkpoint, but not all.
    """
    folders = policies_in(folder.path)
    found, missing = dict[str, Checkpoint](), list[str]()
    for name in dict.fromkeys(experiment.agents.policies.values()):
        saved = load_latest(folders[name] / "checkpoints", check_contents) if name in folders else None
        if saved is None:
            missing.append(name)
        else:
            found[name] = saved
    if found and missing:
        raise CheckpointError(
            f"{folder.path / POLICIES / missing[0]} has no checkpoint, but other policies have."
        )
    seeds = {name: saved.manifest.get("experiment", {}).get("random_seed") for name, saved in found.items()}

    def comes_later(name: str) -> bool:
        """The others' seeds are derived from the first one's."""
        others = [other for other in seeds if other != name]
        return any(seeds[name] is None or seeds[each] != own_seed(seeds[name], each) for each in others)

    found = {name: found[name] for name in sorted(found, key=comes_later)}
    agents = {name: tuple(saved.state["identity"][AGENTS]) for name, saved in found.items()}
    experiments = policy_experiments(experiment, agents, experiment.environment.num_envs) if found else {}
    return {name: Snapshot(experiments[name], saved) for name, saved in found.items()}


def open_joint_job(
    experiment: Experiment,
    folder: RunFolder | None,
    communicator: Communicator,
    reporting: Reporting,
    interrupts: Interrupts,
    *,
    clobber: bool,
    accept_changes: bool,
    command_line: Sequence[str],
    place: dict[str, str],
) -> JointJob | Checkpoint:
    """Create everything that training several policies needs; see `job.open_job`. A collective."""
    check_trackers(reporting, folder)
    with ExitStack() as resources:
        if folder is not None:
            resources.enter_context(folder.lock(communicator))
        layout = divide(experiment.environment.num_envs, communicator.rank, communicator.size)
        if experiment.exact_resume:
            on_main(communicator, lambda: check_environment(experiment.environment))
        teams, envs = make_policy_envs(experiment.environment, experiment.agents, layout)
        resources.callback(teams.close)
        policies = experiment.agents.policy_of(teams.agents)
        experiments = policy_experiments(experiment, policies, layout.total)
        for own in experiments.values():
            check_names(own, reporting)
        folders = dict[str, RunFolder]()
        if folder is not None:
            folders = {name: RunFolder(folder.path / POLICIES / name) for name in policies}
            if clobber:
                for each in (folder, *folders.values()):
                    on_main(communicator, each.clobber)
        checkpoints = common_checkpoints(communicator, folders)
        for name, saved in (checkpoints or {}).items():
            check_identity(saved, settings_identity(experiments[name]))
            if not accept_changes:
                refuse_another_run(folders[name].path, changes_since(saved, experiments[name]))
            if saved.timesteps >= experiments[name].num_timesteps:
                return saved
        if checkpoints is not None and experiment.exact_resume:
            teams.reset(0)  # what the policies see then is replaced by what they saw
        joint = JointCollection(teams, Randomness(experiment.random_seed), layout)
        save = partial(_save, command_line=command_line, communicator=communicator)
        save(folder, experiment, None)
        jobs, names, together = list[Job](), tuple(policies), Policies(teams.agents)
        for index, (name, own) in enumerate(experiments.items()):
            make = partial(PolicyTrainer, joint=joint, learns=partial(experiment.agents.learns, name, names))
            company = partial(together.company, policies[name])
            home = folders.get(name)
            path = None if home is None else home.path
            trainer = build_trainer(own, communicator, envs[name], path, make, company)
            together.add(policies[name], trainer.agent)
            checkpoint, notes = (checkpoints or {}).get(name), list(envs[name].notes)
            if checkpoint is not None:
                notes += [*checkpoint.notes, *restore(trainer, checkpoint)]
            save(home, own, checkpoint)
            member = MemberSession(
                trainer,
                communicator,
                home,
                SilentReporter(),
                interrupts,
                seconds=0.0 if checkpoint is None else checkpoint.state["seconds"],
                place=place,
                notices=envs[name].new_notices if index == 0 else list,
            )
            told = replace(reporting, labels=replace(reporting.labels, part_of=experiment.name))
            quiet = told if index == 0 else replace(told, verbosity=-1)
            jobs.append(Job(member, 1, ExitStack(), quiet, notes))
        members = [job.session for job in jobs]
        first = members[0]
        session = JointSession(
            first.trainer,
            communicator,
            folder,
            SilentReporter(),
            interrupts,
            place=place,
            members=members,  # type: ignore[arg-type]
        )
        return JointJob(session, 1, resources.pop_all(), reporting, members=jobs)


def _save(
    folder: RunFolder | None,
    experiment: Experiment,
    checkpoint: Checkpoint | None,
    *,
    command_line: Sequence[str],
    communicator: Communicator,
) -> None:
    """Write an experiment into its folder, if there is one, by rank 0. A collective."""
    if folder is None:
        return
    path = folder.path
    timesteps = 0 if checkpoint is None else checkpoint.timesteps

    def write() -> None:
        path.mkdir(parents=True, exist_ok=True)
        save_experiment(
            path, experiment, command_line, communicator.processes, timesteps=timesteps, changes={}
        )

    on_main(communicator, write)
