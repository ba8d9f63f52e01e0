"""The backend that steps each environment in a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from typing import Any

import cloudpickle
import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_and_friends.common.nested import copied, row_of
from ppo_and_friends.distributed.interrupts import held_back
from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.errors import EnvironmentFault
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector.adapter import notice
from ppo_and_friends.vector.checked_env import check_alike, left_out_notice
from ppo_and_friends.vector.codec import encoders, other_spaces
from ppo_and_friends.vector.masks import KEY, mask_space
from ppo_and_friends.vector.output import Output
from ppo_and_friends.vector.process_start import kill, shared_file, start_method, without_main
from ppo_and_friends.vector.protocol import TaskOf, VectorStep
from ppo_and_friends.vector.worker import (
    GONE,
    PATIENCE,
    Failure,
    Refusal,
    Reply,
    make_in_worker,
    serve,
    shared_batch,
)

Array = NDArray[Any]


class AsyncGymnasiumVectorEnv:
    """Steps each environment in its own process, which pays off for slow environments.

    Of the environments' infos, which may hold anything, only an episode's last numbers leave the processes.
    """

    backend = "async"
    device = None

    def __init__(self, settings: EnvironmentSettings, layout: Layout) -> None:
        """Start one process for each of this rank's environments.

        Args:
            settings: The environment, and how to start a process (``start_method``).
            layout: This rank's environments.

        Raises:
            UsageError: The environments can't be created, or their spaces aren't supported or differ.
            EnvironmentFault: An environment's own code raised an exception.
        """
        self.num_envs = layout.local
        self.task_of: TaskOf | None = None
        self._first, self._steps = layout.first, 0
        self._processes: list[Any] = []
        # multiprocessing's own way at exit is SIGTERM, which workers leave to the main process.
        Finalize(self, kill, args=(self._processes,), exitpriority=1)
        self._connections: list[Connection] = []
        self._resets = np.zeros(layout.local, np.bool_)
        self._adapted: dict[str, None] = {}
        self._output = Output()
        try:
            self._start(settings, layout)
            declared, actions, masked = self._spaces(settings.id)
            self.action_space: spaces.Space[Any] = actions
            self._encoders = encoders(declared, settings.critic_observations)
            self.encoder = self._encoders["policy"]
            self.observation_space = self.encoder.space
            self.other_spaces = other_spaces(self._encoders)
            if masked:
                self.other_spaces = {**self.other_spaces, KEY: mask_space(actions)}
            self._declared = declared
            with shared_file() as path:
                self._batch = shared_batch(path, declared, self.num_envs)
                self._tell([(path, self.num_envs)] * self.num_envs)
                self._replies()
        except BaseException:
            self.close()
            raise
        self._clip_rewards = settings.atari is not None and settings.atari.clip_rewards

    @property
    def notices(self) -> list[str]:
        """What the user should know about the environments, as far as they have shown it."""
        found = [notice(list(self._adapted)), left_out_notice(self._declared), self._output.notice()]
        return [each for each in found if each]

    def reset(self, seed: int) -> dict[str, Array]:
        """Reset every environment; see `VectorEnv.reset`."""
        self._tell([self._beginning(i, seed + i) for i in range(self.num_envs)])
        replies = self._replies()
        self._resets = np.zeros(self.num_envs, np.bool_)
        return self._observations(replies)

    def step(self, actions: Any) -> VectorStep:
        """Step all environments; see `VectorEnv.step`."""
        self._steps += 1
        actions = copied(actions, self.action_space)
        self._tell(
            [
                self._beginning(i) if over else ("step", row_of(actions, self.action_space, i))
                for i, over in enumerate(self._resets.tolist())
            ]
        )
        replies = self._replies()
        true_rewards = np.array([reply.reward for reply in replies])
        terminated = np.array([reply.terminated for reply in replies])
        finished = np.array([reply.finished for reply in replies])
        resets, self._resets = self._resets, finished
        return VectorStep(
            observations=self._observations(replies),
            rewards=np.sign(true_rewards) if self._clip_rewards else true_rewards,
            terminated=terminated,
            truncated=finished & ~terminated,
            active=~resets,
            episode_starts=resets,
            true_rewards=true_rewards,
            finished=finished,
            infos={i: reply.info for i, reply in enumerate(replies) if reply.info},
        )

    def get_states(self) -> list[bytes]:
        """The states of the environments; see `VectorEnv`."""
        return self._about_states([("save", over) for over in self._resets.tolist()])

    def set_states(self, states: Sequence[bytes]) -> None:
        """Set the states of the environments, which were reset; see `VectorEnv`."""
        self._resets = np.array(self._about_states([("restore", state) for state in states]))

    def _about_states(self, messages: list[Any]) -> list[Any]:
        self._tell(messages)
        answers = [self._receive(i) for i in range(self.num_envs)]
        for answer in answers:
            if isinstance(answer, Refusal):
                raise answer.error
        return answers

    def _beginning(self, row: int, seed: int | None = None) -> tuple[str, Any]:
        """The message that begins a row's next episode."""
        return "reset", (seed, None if self.task_of is None else self.task_of(row))

    def _observations(self, replies: list[Reply]) -> dict[str, Array]:
        found = {name: encode(self._batch.value) for name, encode in self._encoders.items()}
        if KEY not in self.other_spaces:
            return found
        return found | {
            KEY: np.stack([reply.action_mask for reply in replies if reply.action_mask is not None])
        }

    @property
    def steps(self) -> int:
        """Number of steps since the process started, the one under way included."""
        return self._steps

    def unanswered(self) -> str:
        """The global indices of the environments that the step under way waits for, as text."""
        rows = [i for i, pipe in enumerate(self._connections) if not pipe.closed and not pipe.poll()]
        return f"environment {', '.join(str(self._first + i) for i in rows) or '?'}"

    def whereabouts(self) -> str:
        """What is waited for, for a report of what stands still."""
        return f"{self.unanswered()}, step {self._steps}"

    def close(self) -> None:
        """End the processes: those that don't end by themselves are killed."""
        for connection in self._connections:
            with contextlib.suppress(*GONE, OSError):
                connection.send(None)
            connection.close()
        until = time.monotonic() + PATIENCE
        for process in self._processes:
            process.join(max(0.0, until - time.monotonic()))
        kill(self._processes)
        self._connections.clear()

    def _start(self, settings: EnvironmentSettings, layout: Layout) -> None:
        context: Any = multiprocessing.get_context(start_method(settings.start_method))
        context.set_forkserver_preload([serve.__module__])  # so that each process needn't import it
        spec = gymnasium.registry.get(settings.id.rpartition(":")[2])
        with without_main(), held_back():
            for i in range(layout.local):
                make = cloudpickle.dumps(partial(make_in_worker, settings, layout.first + i, spec))
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=serve, args=(theirs, make, i), daemon=True, name=f"environment {layout.first + i}"
                )
                process.start()
                theirs.close()
                self._processes.append(process)
                self._connections.append(ours)

    def _spaces(self, id: str) -> tuple[spaces.Space[Any], spaces.Space[Any], bool]:
        answers = [self._receive(i) for i in range(self.num_envs)]
        first, *others = [_Spaces(*answer) for answer in answers]
        for other in others:
            check_alike(id, other, first)
        return first.observation_space, first.action_space, first.masked

    def _tell(self, messages: list[Any]) -> None:
        for i, (connection, message) in enumerate(zip(self._connections, messages, strict=True)):
            try:
                connection.send(message)
            except GONE as error:
                self._receive(i)  # if it has said why
                raise self._died(i) from error

    def _replies(self) -> list[Reply]:
        replies: list[Reply] = [self._receive(i) for i in range(self.num_envs)]
        self._output.lines = sum(reply.printed[0] for reply in replies)
        for reply in replies:
            self._output.first = self._output.first or reply.printed[1]
            self._adapted.update(dict.fromkeys(reply.adapted))
        return replies

    def _receive(self, index: int) -> Any:
        """What a process answers.

        Raises:
            PPOError: It has failed, or has died.
        """
        try:
            answer = self._connections[index].recv()
        except GONE as error:
            raise self._died(index) from error
        if isinstance(answer, Failure):
            raise answer.error()
        return answer

    def _died(self, index: int) -> EnvironmentFault:
        process = self._processes[index]
        process.join(PATIENCE)
        return EnvironmentFault(
            f"environment {self._first + index} (exit code {process.exitcode}), step {self._steps}: "
            "its process died"
        )


class _Spaces:
    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], masked: bool
    ) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.masked = masked
