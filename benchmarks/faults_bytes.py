"""Bytes that change on the disk, and contents that were never a run's."""

from __future__ import annotations

import random
import shutil
import tempfile
import warnings
from pathlib import Path

from benchmarks.fault_cases import Case, arguments, differing, in_child, newest, run_folder
from benchmarks.forged import FORGERIES, rewrite
from ppo_and_friends import TrainedPolicy, load_policy
from ppo_and_friends.errors import PPOError
from ppo_and_friends.runs.checkpoint import Checkpoint
from ppo_and_friends.settings.plain import experiment_settings
from ppo_and_friends.studies.pack import pack

BEGUN, DONE, MORE = 300, 640, 900
"""Timesteps of the older checkpoint, of the newest, and of a run that goes on."""

WITH = ("--set=checkpoint_seconds=100", "--with=BestPolicyKeeper")
"""One checkpoint a session, and a best policy."""


def flips(rounds: int, chance: random.Random) -> list[Case]:
    """Change a byte in a file of a run, or of a packed policy, and load it; put the byte back."""
    loaded = Case("a byte flipped in a file of a run", "refused or harmless; the previous checkpoint, said")
    packed = Case("a byte flipped in a packed policy", "refused or harmless")
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        folder = trained(home)
        archive = pack(folder, home / "policy.zip", episodes=1)
        files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
        # As many of each file, whatever its size: the small ones say what the large ones mean.
        policies = [load_policy(path) for path in sorted((folder / "checkpoints").glob("0*"))]
        for number in range(rounds):
            path = files[number % len(files)] if number % 5 else archive
            case = loaded if path != archive else packed
            where = folder if path != archive else archive
            case.judge(_flipped(path, where, policies, chance))
    return [case for case in (loaded, packed) if case.tries]


def trained(home: Path) -> Path:
    """A run with an older and a newer checkpoint, and a best policy."""
    for timesteps in (BEGUN, DONE):
        ended = in_child(
            arguments(home, timesteps, "--set=checkpoint_seconds=100", "--with=BestPolicyKeeper")
        )
        assert ended.status == 0, ended.text
    return run_folder(home)


def _flipped(path: Path, where: Path, policies: list[TrainedPolicy], chance: random.Random) -> str | None:
    content = path.read_bytes()
    if not content:
        return None
    place, mask = chance.randrange(len(content)), chance.randrange(1, 256)
    changed = bytearray(content)
    changed[place] ^= mask
    path.write_bytes(bytes(changed))
    what = f"{path.name}, byte {place} ^ {mask}"
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            policy = load_policy(where)
        if experiment_settings(policy.experiment) != experiment_settings(policies[-1].experiment):
            return f"{what}: loaded with other settings"
        if not _same(policy, policies[-1]):
            if not _same(policy, policies[0]):
                return f"{what}: loaded with other numbers"
            if not said:
                return f"{what}: the previous one was taken without a word"
    except PPOError:
        return None
    except Exception as error:
        return f"{what}: {type(error).__name__}: {error}"
    finally:
        path.write_bytes(content)
    return None


def _same(one: TrainedPolicy, other: TrainedPolicy) -> bool:
    """Whether two policies have the same tensors, timesteps and spaces."""
    pair = [Checkpoint(Path(), each.timesteps, each.agent.tensors(), {}, {}) for each in (one, other)]
    return (
        one.timesteps == other.timesteps
        and differing(*pair) is None
        and one.observation_space == other.observation_space
        and one.action_space == other.action_space
    )


def contents(rounds: int, chance: random.Random) -> Case:
    """Forged contents with right checksums: training must go on from the previous checkpoint, and say so."""
    case = Case("content that isn't a run's, with right checksums", "refused by name; the previous one, said")
    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / "whole"
        trained(home)
        for forgery in chance.sample(FORGERIES, min(rounds, len(FORGERIES))):
            copy = Path(place) / "copy"
            shutil.copytree(home, copy)
            found = newest(copy)
            assert found is not None
            rewrite(found.path, forgery.change)
            ended = in_child(arguments(copy, MORE, *WITH))
            told = " ".join(ended.text.split())
            last = newest(copy)
            if ended.status != 0 or ended.complaint:
                case.judge(f"{forgery.name}: status {ended.status}, {ended.complaint}")
            elif forgery.told not in told or "Falling back to the checkpoint" not in told:
                case.judge(f"{forgery.name}: not said")
            else:
                case.judge(None if last is not None and last.timesteps >= MORE else f"{forgery.name}: no end")
            shutil.rmtree(copy)
    return case
