"""What runs in an environment's own process, and how it talks with the main one."""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from typing import Any

import cloudpickle
import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from ppo_and_friends.common.infos import numbers_of
from ppo_and_friends.distributed.interrupts import leave_to_main
from ppo_and_friends.errors import EnvironmentFault, PPOError
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.settings.own import environment_maker
from ppo_and_friends.settings.registry import import_of_id
from ppo_and_friends.vector.adapter import adaptations
from ppo_and_friends.vector.batch import ObservationBatch
from ppo_and_friends.vector.checked_env import CheckedEnv, make_checked
from ppo_and_friends.vector.faults import in_words
from ppo_and_friends.vector.output import Output
from ppo_and_friends.vector.states.environment import restore, saved
from ppo_and_friends.vector.states.errors import BadStateError, NoStateError
from ppo_and_friends.vector.tasks import TaskedEnv
from ppo_and_friends.vector.wrappers import LIFE_LOST

Array = NDArray[Any]

ALIGNMENT = 64
"""Bytes at whose multiples arrays begin in shared memory."""

PATIENCE = 2.0
"""Seconds that a process has to end by itself."""

GONE = (EOFError, BrokenPipeError, ConnectionResetError)
"""What a connection raises when the process at its other end is gone."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker answers to a reset or a step. The observation is in shared memory."""

    reward: float = 0.0
    terminated: bool = False
    """Excludes a truncation; includes a lost life."""

    finished: bool = False
    """The episode is over, and the next step resets."""

    info: dict[str, float] = field(default_factory=dict)
    """Numbers in the last info of an episode, where one ended."""

    action_mask: Array | None = None
    """[M] bool, if the environment has masks."""

    adapted: tuple[str, ...] = ()
    """What was adapted since the last reply."""

    printed: tuple[int, str] = (0, "")
    """Lines printed so far, and the first of them."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a worker answers when its environment's state can't be saved or set."""

    error: NoStateError | BadStateError


@dataclass(frozen=True, slots=True)
class Failure:
    """What a worker answers when it has failed."""

    kind: type[PPOError]
    message: str
    traceback: str = field(default="", repr=False)

    def error(self) -> PPOError:
        """The error, to be raised in the main process."""
        error = self.kind(self.message)
        if isinstance(error, EnvironmentFault):
            error.traceback = self.traceback
        return error


def shared_batch(path: Path, space: spaces.Space[Any], rows: int) -> ObservationBatch:
    """A batch whose arrays are in a file that several processes map into memory; made if it isn't there."""
    size = 0

    def measured(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        nonlocal size
        size += _padded(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        return np.zeros(0, dtype)

    ObservationBatch(space, rows, measured)
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.truncate(max(1, size))
        memory = mmap.mmap(file.fileno(), max(1, size))
    start = 0

    def mapped(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        nonlocal start
        array: Array = np.ndarray(shape, dtype, buffer=memory, offset=start)
        start += _padded(array.nbytes)
        return array

    return ObservationBatch(space, rows, mapped)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def make_in_worker(settings: EnvironmentSettings, index: int, spec: EnvSpec | None) -> CheckedEnv:
    """`make_checked` in a process that may not know what the main program has registered.

    Args:
        settings: The environment.
        index: Its global index.
        spec: Its registration in the main program, if it has one.
    """
    if settings.factory is None and environment_maker(settings.id) is None:
        import_of_id(settings.id)  # which may register it
    if spec is not None and spec.id not in gymnasium.registry:
        gymnasium.registry[spec.id] = spec  # registered by the main program itself
    return make_checked(settings, index)


def serve(connection: Connection, pickled_make: bytes, row: int) -> None:
    """Run one environment until the connection ends.

    Args:
        connection: To the main process.
        pickled_make: By cloudpickle: makes the environment.
        row: Its index in the batch.
    """
    leave_to_main()
    end_with_main()
    output = Output()
    env: CheckedEnv | None = None
    try:
        with output:
            make: Callable[[], CheckedEnv] = cloudpickle.loads(pickled_make)
            env = make()
        connection.send((env.observation_space, env.action_space, env.masked))
        path, rows = connection.recv()
        batch = shared_batch(path, env.observation_space, rows)
        connection.send(Reply(printed=(output.lines, output.first)))
        _answer(connection, env, batch, row, output)
    except GONE:
        pass  # the main process has ended, and so does this one
    except PPOError as error:
        with contextlib.suppress(*GONE):
            connection.send(Failure(type(error), str(error), getattr(error, "traceback", "")))
    except BaseException as error:
        with contextlib.suppress(*GONE):
            connection.send(Failure(EnvironmentFault, f"an environment's process failed: {in_words(error)}"))
    finally:
        if env is not None:
            with contextlib.suppress(BaseException), output:
                env.close()
        connection.close()


def end_with_main() -> None:
    """End this process as soon as the main process is gone, even amid a step that never returns."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(main: int) -> None:
    wait([main])
    time.sleep(PATIENCE)  # an environment that isn't stuck is closed in this time
    os._exit(1)


def _state(env: CheckedEnv, tasked: TaskedEnv, what: str, value: Any) -> bytes | bool | Refusal:
    """The environment's state; or whether its episode is over, where the main process gives a state."""
    try:
        return saved(env, tasked, value) if what == "save" else restore(env, tasked, value)
    except (NoStateError, BadStateError) as error:
        return Refusal(error)


def _answer(
    connection: Connection, env: CheckedEnv, batch: ObservationBatch, row: int, output: Output
) -> None:
    """Reset and step as the main process asks, until it asks for None."""
    told, tasked = 0, TaskedEnv(env)
    while (asked := connection.recv()) is not None:
        what, value = asked
        if what in ("save", "restore"):
            with output:
                answer = _state(env, tasked, what, value)
            connection.send(answer)
            continue
        reward, terminated, finished = 0.0, False, False
        numbers: dict[str, float] = {}
        with output:
            if what == "reset":
                seed, task = value
                observation = env.reset(seed=seed)[0] if task is None else tasked.begin(task, seed)
            else:
                observation, reward, ended, truncated, info = env.step(value)
                terminated, finished = ended or bool(info.get(LIFE_LOST, False)), ended or truncated
                numbers = numbers_of(info) if finished else {}
        batch.write(row, observation)
        adapted = adaptations(env)
        new, told = tuple(adapted[told:]), len(adapted)
        printed = output.lines, output.first
        connection.send(Reply(reward, terminated, finished, numbers, env.action_mask, new, printed))
