"""A training run of the benchmark: its settings, where it is kept, and how far it is."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from benchmarks.jobs import Job
from benchmarks.report import ROOT, now, source_state, write_json
from ppo_and_friends.cli.apply_options import apply_options
from ppo_and_friends.cli.options import Options
from ppo_and_friends.runs.run_folder import RunFolder, policies_in
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.migration import migrated
from ppo_and_friends.settings.plain import experiment_settings
from ppo_and_friends.settings.registry import resolve

NOT_SETTINGS = ("random_seed", "checkpoint_seconds", "keep_checkpoints", "reward_threshold")
"""Settings that don't change what is learned, or are the seed."""

OBSERVERS = ("Evaluator", "BestPolicyKeeper", "VideoRecorder")
"""Friends that don't change what is learned."""

EVALUATIONS, EPISODES = 20, 10
"""Evaluations while a run is trained, and their episodes: curves of what is tested, not of exploring."""

RECORD = "benchmark.json"


@dataclass(frozen=True)
class Changes:
    """What the command line changes in every launcher."""

    set: tuple[str, ...] = ()
    with_: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def arguments(self) -> tuple[str, ...]:
        """As ``main.py`` takes them."""
        named = (("--set", self.set), ("--with", self.with_), ("--without", self.without))
        return tuple(part for name, values in named for value in values for part in (name, value))


def settings_hash(settings: dict[str, Any]) -> str:
    """Twelve hexadecimal digits that change when a setting of ``experiment.json`` does; equal for all seeds.

    A setting that came later counts with its default, and one that was renamed under its new name, so that
    neither makes an old run another.
    """
    with contextlib.suppress(ValidationError):  # settings that are no more: another run anyway
        validated = TypeAdapter(Experiment).validate_json(json.dumps(migrated(settings)))
        settings = experiment_settings(validated)
    counted = {name: value for name, value in settings.items() if name not in NOT_SETTINGS}
    if isinstance(counted.get("friends"), list):
        counted["friends"] = [one for one in counted["friends"] if one.get("name") not in OBSERVERS]
    text = json.dumps(counted, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_record(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is none."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_bytes())
        return found if isinstance(found, dict) else {}
    return {}


def policy_folders(folder: Path) -> list[RunFolder]:
    """Where a run's policies are kept: in the run's folder, or in one each if there are several."""
    return [RunFolder(path) for path in policies_in(folder).values()] or [RunFolder(folder)]


def policy_digest(folder: Path) -> str:
    """Digest of a run's latest policy, or of its policies together; empty where there is none."""
    digests = []
    for each in policy_folders(folder):
        latest = each.checkpoints / "latest"
        name = latest.read_text().strip() if latest.is_file() else "none"
        files = read_record(each.checkpoints / name / "manifest.json").get("files", {})
        digests.append(str(files.get("tensors.safetensors", {}).get("sha256", "")))
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


def sessions_of(folder: Path) -> list[dict[str, Any]]:
    """Commit, dirty flag and timesteps at each start of the run in a folder."""
    return list(read_record(folder / RECORD).get("sessions", []))


@dataclass(frozen=True)
class Run:
    """One launcher trained from one seed."""

    environment: str
    """What ``-e`` takes."""
    seed: int
    experiment: Experiment
    work: Path
    changes: Changes = Changes()

    @classmethod
    def of(cls, environment: str, seed: int, work: Path, changes: Changes) -> Run:
        """Look the launcher up. Raises UsageError: There is none, or a changed setting doesn't fit."""
        options = Options(environment=environment, random_seed=seed, **vars(changes))
        return cls(environment, seed, apply_options(resolve(environment), options), work, changes)

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.experiment.name} seed {self.seed}"

    @property
    def state_path(self) -> Path:
        """What ``--state_path`` gets."""
        return self.work / f"seed-{self.seed}"

    @property
    def folder(self) -> RunFolder:
        """Where ``main.py`` keeps the run."""
        return RunFolder(self.state_path / self.experiment.name)

    @property
    def log(self) -> Path:
        """What training and evaluation said."""
        return self.state_path / f"{self.experiment.name}.log"

    @property
    def hash(self) -> str:
        """Of the asked settings."""
        return settings_hash(experiment_settings(self.experiment))

    def timesteps(self) -> int:
        """Agent steps at the latest checkpoint, of all policies together; 0 without one."""
        done = 0
        for each in policy_folders(self.folder.path):
            with contextlib.suppress(OSError, ValueError):
                done += int((each.checkpoints / "latest").read_text().split("-")[0])
        return done

    @property
    def stale(self) -> bool:
        """Whether something else was trained here."""
        saved = read_record(self.folder.experiment).get("experiment")
        return saved is not None and settings_hash(saved) != self.hash

    @property
    def trained(self) -> bool:
        """Whether the whole budget is done, with these settings."""
        return not self.stale and self.timesteps() >= self.experiment.num_timesteps

    def job(self, name: str, *then: tuple[str, ...], clobber: bool = False) -> Job:
        """Trains the run, or continues it (with ``clobber`` starts over), then runs the commands ``then``."""
        commands = [self.command(clobber), *then]
        # Noted when its turn comes: the sources may have changed while it waited.
        noted = {"before": lambda: self.note_start(source_state()), "status": self.status}
        return Job(name, commands, self.log.absolute(), **noted)

    def command(self, clobber: bool = False) -> tuple[str, ...]:
        """The command a user would type."""
        return (
            *(sys.executable, str(ROOT / "main.py"), "-e", self.environment),
            *("--random_seed", str(self.seed), "--state_path", str(self.state_path.absolute())),
            *("--no_tensorboard", "-q"),
            *("--eval_every", str(max(1, self.experiment.num_timesteps // EVALUATIONS))),
            *("--eval_episodes", str(EPISODES)),
            *self.changes.arguments(),
            *(("--clobber",) if clobber or self.stale else ()),
        )

    def note_start(self, source: dict[str, Any]) -> None:
        """Write down from which sources the run is trained, each time it starts or goes on."""
        timesteps = 0 if self.stale else self.timesteps()
        sessions = sessions_of(self.folder.path) if timesteps else []
        sessions.append(source | {"began": now(), "timesteps": timesteps})
        write_json(self.folder.path / RECORD, {"sessions": sessions})

    def status(self) -> str:
        """How far it is, from the last line of ``progress.csv``, and each policy's score."""
        from ppo_and_friends.studies.plan import progress_of  # late: it loads torch

        at = [progress_of(each.path) for each in policy_folders(self.folder.path)]
        done = sum(one.timesteps for one in at) / self.experiment.num_timesteps
        return f"{100 * done:.0f}% score {', '.join(f'{one.score:.1f}' for one in at)}"
