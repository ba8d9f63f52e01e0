"""Learning from a file of episodes before PPO begins."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.common.metric import Metric
from ppo_and_friends.common.nested import parts, pick
from ppo_and_friends.common.objects import resolve_object
from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.distributed.pulse import PULSE
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.friends.observation_normalizer import ObservationNormalizer
from ppo_and_friends.networks.action_mapping import ActionMapping
from ppo_and_friends.networks.joint_mapping import JointMapping
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.hooks import EpisodeHistory, RolloutRequest
from ppo_and_friends.vector.codec import Encoder
from ppo_and_friends.vector.space_descriptions import describe, sizes

Array = NDArray[Any]

INSIDE = 0.999
"""Largest action before tanh is undone."""


class BehaviourCloning(Friend):
    r"""Imitate the episodes of a Minari data set before the first rollout.

    Minimises :math:`-\log \pi(a \,|\, o)` with Adam. The first statistics of an observation normaliser
    are those of the data set, so that the imitated policy sees the same units when PPO begins. Needs the
    extra ``minari``.
    """

    source = "Pomerleau 1991, doi:10.1162/neco.1991.3.1.88"
    reported = (
        Metric("loss", "Negative log-likelihood of the data set's actions in the last epoch, in nats"),
    )

    works_with_memory = works_with_groups = False  # steps are learned from one by one

    finished_cloning: Tensor
    nll: Tensor

    def __init__(
        self, dataset: str, epochs: int = 10, minibatch_size: int = 256, learning_rate: float = 1e-3
    ) -> None:
        """Choose the data.

        Args:
            dataset: A Minari data set's id (``D4RL/door/expert-v2``), the folder of one, or
                ``module:function`` that returns an object like Minari's, with its spaces and
                ``iterate_episodes``.
            epochs: Passes over it, >= 1.
            minibatch_size: Steps in a gradient step, >= 1.
            learning_rate: Adam's, > 0.
        """
        super().__init__()
        if epochs < 1 or minibatch_size < 1 or not learning_rate > 0.0:
            raise UsageError("BehaviourCloning: epochs, minibatch_size and learning_rate must be positive.")
        self.dataset, self.epochs = dataset, epochs
        self.minibatch_size, self.step_size = minibatch_size, learning_rate
        self.finished_cloning = self.statistic("finished", np.array(0.0))
        self.nll = self.statistic("nll", np.array(np.nan))

    def attach(self, agent: Agent) -> None:
        """Keep the agent."""
        self._agent = agent

    def before_rollout(self, request: RolloutRequest) -> None:
        """Imitate, on rank 0, and share the network. A collective, before the first rollout only."""
        if self.finished_cloning.item():
            return
        communicator = self.context.communicator
        on_main(communicator, self._imitate)
        if communicator.size > 1:
            for tensor in self._agent.tensors().values():
                flat = tensor.detach().cpu().flatten().clone()
                communicator.broadcast_(flat.numpy())
                tensor.data.copy_(flat.view(tensor.shape))
        self.finished_cloning.fill_(1.0)

    def _imitate(self) -> None:
        agent, distribution = self._agent, self.context.distribution
        raw, actions, starts = self._steps()
        for normalizer in self.context.others(ObservationNormalizer):
            normalizer.count.fill_(len(raw))
            normalizer.mean.copy_(torch.from_numpy(raw.mean(0, dtype=np.float64)))
            normalizer.variance.copy_(torch.from_numpy(raw.var(0, dtype=np.float64)))
        observations = np.concatenate(
            [self._transformed(raw[first:last]) for first, last in _episodes(starts)]
        )
        is_bytes = agent.space.dtype == np.uint8
        inputs = torch.from_numpy(observations).to(agent.device, None if is_bytes else agent.dtype)
        wanted = torch.from_numpy(actions).to(agent.device)
        if wanted.is_floating_point():
            wanted = wanted.to(agent.dtype)
        parameters = [p for p in agent.network.parameters() if p.requires_grad]
        kept = [None if p.grad is None else p.grad for p in parameters]  # views of the flat buffer
        adam = torch.optim.Adam(parameters, lr=self.step_size)
        generator = self.generator()
        total = 0.0
        for _ in range(self.epochs):
            order = torch.from_numpy(generator.permutation(len(inputs)))
            total = 0.0
            for samples in order.split(self.minibatch_size):
                for parameter in parameters:
                    parameter.grad = None
                loss = -distribution.log_prob(agent.network.policy(inputs[samples]), wanted[samples]).mean()
                loss.backward()
                adam.step()
                PULSE.beat()
                total += loss.item() * len(samples)
        for parameter, gradient in zip(parameters, kept, strict=True):
            parameter.grad = gradient
        self.nll.fill_(total / len(inputs))

    def _transformed(self, raw: Array) -> Array:
        """An episode's observations as the network sees them, through all friends."""
        history = EpisodeHistory(episode_starts=np.ones(1, bool))
        seen = []
        for observation in raw:
            seen.append(self._agent.friends.transform(observation[None], history)[0].copy())
            history = copy.copy(history)
            history.episode_starts = np.zeros(1, bool)
        return np.stack(seen)

    def _steps(self) -> tuple[Array, Array, Array]:
        """All steps: encoded observations [N, *obs], stored actions [N, A], first of an episode [N]."""
        declared = self.context.declared_space or self.context.observation_space
        encoder, mapping = Encoder(declared), self._agent.mapping
        data = _load(self.dataset)
        self._check(data, declared)
        observations: list[Array] = []
        actions: list[Array] = []
        starts: list[Array] = []
        for episode in data.iterate_episodes():
            length = len(episode.rewards)
            if length == 0:
                continue
            observations.append(encoder(_first(episode.observations, length)).copy())
            actions.append(_stored(mapping, episode.actions))
            start = np.zeros(length, bool)
            start[0] = True
            starts.append(start)
        if not observations:
            raise UsageError(f"BehaviourCloning: {self.dataset} has no steps.")
        return np.concatenate(observations), np.concatenate(actions), np.concatenate(starts)

    def _check(self, data: Any, declared: spaces.Space[Any]) -> None:
        if not all(hasattr(data, name) for name in ("observation_space", "action_space", "iterate_episodes")):
            raise UsageError(
                f"BehaviourCloning: {self.dataset} gave {data!r:.60}, which has no observation_space, "
                "action_space and iterate_episodes."
            )
        for kind, here, there in (
            ("observation", declared, data.observation_space),
            ("action", self.context.action_space, data.action_space),
        ):
            if not _fits(here, there):
                raise UsageError(
                    f"BehaviourCloning: the {kind} space is {here} here, but {there} in {self.dataset}."
                )

    def metrics(self) -> dict[str, float]:
        """The loss that cloning reached."""
        return {"loss": self.nll.item()}


def _fits(here: spaces.Space[Any], there: Any) -> bool:
    """Whether a data set's space has the environment's sizes, whatever its bounds and the order of keys."""
    if isinstance(here, spaces.Dict):
        same = isinstance(there, spaces.Dict) and here.spaces.keys() == there.spaces.keys()
        return same and all(_fits(part, there[key]) for key, part in here.spaces.items())
    return isinstance(there, spaces.Space) and sizes(describe(here)) == sizes(describe(there))


def _load(name: str) -> Any:
    if ":" in name and not Path(name).exists():
        return resolve_object(name, "data set")()
    try:
        import minari
    except ImportError:
        raise UsageError(
            "BehaviourCloning needs a package that isn't installed: pip install 'ppo-and-friends[minari]'"
        ) from None
    path = Path(name)
    try:
        if path.is_dir():
            return minari.MinariDataset(path / "data" if (path / "data").is_dir() else path)
        return minari.load_dataset(name)
    except Exception as error:  # whatever the file, its library or its absence causes
        raise UsageError(
            f"BehaviourCloning: {name} can't be read: {' '.join(str(error).split())}."
        ) from error


def _first(observations: Any, length: int) -> Any:
    """The observations that were acted on: all but the final one."""
    if isinstance(observations, dict):
        return {key: _first(each, length) for key, each in observations.items()}
    if isinstance(observations, tuple):
        return tuple(_first(each, length) for each in observations)
    return np.asarray(observations)[:length]


def _stored(mapping: ActionMapping, actions: Any) -> Array:
    """An environment's actions [N, *action shape] as the policy stores them, [N, A]."""
    if isinstance(mapping, JointMapping):
        paths = [path for path, _ in parts(mapping.space)]
        each = [_stored(part, pick(actions, path)) for part, path in zip(mapping.parts, paths, strict=True)]
        return np.concatenate(each, axis=1)
    array: Array = np.asarray(actions)
    flat: Array = array.reshape(len(array), -1)
    if not isinstance(mapping.space, spaces.Box):
        return (flat - mapping.start).astype(np.int64)
    scaled = (flat - mapping.centre) / mapping.half_range
    return np.arctanh(np.clip(scaled, -INSIDE, INSIDE)) if mapping.squash else scaled


def _episodes(starts: Array) -> Iterator[tuple[int, int]]:
    edges = [*np.flatnonzero(starts).tolist(), len(starts)]
    return pairwise(edges)
