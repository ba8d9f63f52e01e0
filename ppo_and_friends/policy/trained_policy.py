"""A trained policy as an object. ``load_policy(folder)`` needs no MPI, no launcher and no simulator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from ppo_and_friends.common.nested import row_of
from ppo_and_friends.errors import UsageError
from ppo_and_friends.policy.restored_agent import restored_agent
from ppo_and_friends.policy.team import TeamObservations
from ppo_and_friends.runs.checkpoint import (
    Checkpoint,
)
from ppo_and_friends.runs.checkpoint_contents import (
    AGENTS,
    RAW_SPACE,
)
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.vector.codec import Encoder
from ppo_and_friends.vector.masks import KEY, BadMaskError, as_mask, choices_of, dead_end
from ppo_and_friends.vector.protocol import PRESENT
from ppo_and_friends.vector.space_descriptions import restore
from ppo_and_friends.vector.spaces import leaves

NO_MASKS = "The policy was trained without action masks, and can't make use of one."


class TrainedPolicy:
    """Maps raw observations to actions in the environment's units, including all normalisation and scaling.

    Attributes:
        observation_space: Space of one observation, as the environment declares it.
        encoded_space: Space of one encoded observation: a flat vector or an image.
        action_space: Space of one action, as the environment declares it.
        experiment: The settings it was trained with.
        timesteps: Number of agent steps it was trained for.
        agent: The network and the friends.
        agents: Names of those in an environment that share the policy; empty if there is a single one.
    """

    def __init__(self, experiment: Experiment, checkpoint: Checkpoint) -> None:
        """Restore the policy from a checkpoint; see `load_policy` for loading from a folder.

        Args:
            experiment: The settings it was trained with.
            checkpoint: The checkpoint, verified.

        Raises:
            IncompatibleState: The checkpoint doesn't fit the settings.
        """
        self.experiment, self.timesteps = experiment, checkpoint.timesteps
        self.agent = restored_agent(experiment, checkpoint)
        self.action_space = self.agent.mapping.space
        self.observation_space = _raw_space(checkpoint)
        self._encode = Encoder(self.observation_space)
        self.encoded_space = self._encode.space
        self._leaves = leaves(self.observation_space)
        self._policy = self.agent.policy()
        self._rows = 0
        self.agents = tuple(checkpoint.state["identity"].get(AGENTS, ()))
        self._team = TeamObservations(self.observation_space, self.agents)

    def __call__(self, observation: Any, *, action_mask: Any = None, deterministic: bool = True) -> Any:
        """Choose an action for an observation, or for each observation of a batch.

        Args:
            observation: An element of ``observation_space``, or a batch in which each array has a
                leading axis [B, ...], as returned by Gymnasium's vector environments. For several agents a
                dict of the observations of those that are there, as PettingZoo returns it, or a batch with
                a row for each agent.
            action_mask: Which actions are legal: [M] or, for a batch, [B, M], as the environment says. A
                policy that was trained with masks needs it; None: it is the observation's ``action_mask``.
                For several agents' observations by name, masks by name.
            deterministic: Take the distribution's mode; False: sample.

        Returns:
            An element of ``action_space``; for a batch, [B, *action shape] (of each part of a nested space);
            for several agents' observations by name, their actions by name.

        Raises:
            UsageError: The observation doesn't fit ``observation_space``, a mask is missing or doesn't fit,
                or a policy with memory is called with another number of rows than before, without a reset.
            BadObservationError: A category in it is outside its space.
        """
        if self._team.are_these(observation):
            return self._act_as_team(observation, action_mask, deterministic)
        return self._act(observation, action_mask, deterministic)

    def _act(self, observation: Any, action_mask: Any, deterministic: bool, present: Any = None) -> Any:
        """An action, or those of a batch, of whose agents ``present`` [B] are there; None: all."""
        single = self._is_single(observation)
        batch = _batch_of_one(observation) if single else observation
        encoded = self._encode(batch)
        if len(encoded) != self._rows:
            if self._rows and self.agent.network.policy_state_size:
                raise UsageError(
                    f"The policy remembers the episodes of {self._rows} row(s), but is called with "
                    f"{len(encoded)}: call reset() before, where new episodes begin."
                )
            # Each row is an episode, so a different batch size means new episodes.
            self._policy.reset()
            self._rows = len(encoded)
        seen = {"policy": encoded} | self._presence(present, len(encoded))
        if self.agent.mask_space is not None or action_mask is not None:
            seen[KEY] = self._masks(observation, action_mask, single, len(encoded))
        actions = self._policy.act(seen, deterministic)
        return row_of(actions, self.action_space, 0) if single else actions

    def reset(self, seed: int | None = None, rows: Any = None) -> None:
        """Start new episodes; necessary for policies with memory.

        Args:
            seed: Seed of the random generator that samples actions; None: continue with its state.
            rows: [B] bool, the rows of a batch in which an episode starts. None: all; the next call may
                then have another batch size.
        """
        self._policy.reset(seed, rows)
        if rows is None:
            self._rows = 0
            self._team.reset()

    def nobody_there(self) -> None:
        """Say that none of its agents is there: where they appear again, new episodes begin."""
        self._team.reset()

    def _act_as_team(
        self, observations: Mapping[str, Any], given: Any, deterministic: bool
    ) -> dict[str, Any]:
        """Actions of the agents that are there, by name."""
        if given is not None and not isinstance(given, Mapping):
            raise UsageError("By agent, give action_mask={agent: mask}.")
        for observation in observations.values():
            if not self._is_single(observation):
                raise UsageError("By agent, give a single observation each.")
        appeared = self._team.take(observations)
        if self._rows == len(self.agents) and appeared.any():
            self._policy.reset(rows=appeared)
        masks = None
        if given and self.agent.mask_space is None:
            raise UsageError(NO_MASKS)
        if self.agent.mask_space is not None:
            masks = np.ones((len(self.agents), *self.agent.mask_space.shape), np.bool_)
            for agent, observation in observations.items():
                place = self.agents.index(agent)
                masks[place] = self._masks(observation, (given or {}).get(agent), single=True, rows=1)[0]
        actions = self._act(self._team.batch, masks, deterministic, self._team.there)
        places = {agent: self.agents.index(agent) for agent in observations}
        return {agent: row_of(actions, self.action_space, k) for agent, k in places.items()}

    def _presence(self, present: Any, rows: int) -> dict[str, Any]:
        """Who is there [B, 1], if the network takes the agents of an environment together."""
        network = self.agent.network
        if not network.groups_agents:
            return {}
        if rows % network.group_size:
            raise UsageError(
                f"{', '.join(self.agents)} decide together: call the policy with their observations by name, "
                f"or with a batch that has a row for each of them, not with {rows} row(s)."
            )
        return {PRESENT: np.ones((rows, 1), np.bool_) if present is None else present[:, None]}

    def _masks(self, observation: Any, given: Any, single: bool, rows: int) -> Any:
        """[B, M] bool."""
        if self.agent.mask_space is None:
            raise UsageError(NO_MASKS)
        if given is None and isinstance(observation, Mapping):
            given = observation.get(KEY)
        if given is None:
            raise UsageError(
                "The policy was trained with action masks: call policy(observation, action_mask=...) with "
                "what the environment says, such as info['action_mask']."
            )
        if not single and not hasattr(given, "__len__"):
            raise UsageError(f"action_mask: {given!r} for {rows} observations; give a mask for each.")
        each = [given] if single else list(given)
        if len(each) != rows:
            raise UsageError(f"action_mask: {len(each)} rows for {rows} observations.")
        try:
            masks = np.stack([as_mask(one, self.action_space) for one in each])
        except BadMaskError as error:
            raise UsageError(f"action_mask: {error}.") from error
        found = dead_end(masks, choices_of(self.action_space))
        if found is not None:
            raise UsageError(f"action_mask: {found[1]}" + ("." if single else f" in row {found[0]}."))
        return masks

    def _is_single(self, observation: Any) -> bool:
        """Return whether it is a single observation rather than a batch.

        Raises:
            UsageError: A part is missing or has the wrong shape, or the parts' batch sizes differ.
        """
        batch_sizes: set[int | None] = set()
        for leaf in self._leaves:
            part = observation
            try:
                for key in leaf.path:
                    part = part[key]
            except (KeyError, IndexError, TypeError):
                raise UsageError(
                    f"{leaf.key} is missing. The policy's observation space is {self.observation_space}."
                ) from None
            got, shape = np.shape(part), leaf.space.shape or ()
            if got not in (shape, (got[:1] or (0,)) + shape):
                batch = ", ".join(("B", *map(str, shape)))
                raise UsageError(
                    f"{leaf.key} has shape {list(got)}; expected {list(shape)}, or [{batch}] for a batch."
                )
            batch_sizes.add(None if got == shape else got[0])
        if len(batch_sizes) > 1:
            raise UsageError(
                f"The parts of the observation have different batch sizes: {sorted(map(str, batch_sizes))}."
            )
        return batch_sizes == {None}


def _raw_space(checkpoint: Checkpoint) -> spaces.Space[Any]:
    state = checkpoint.state
    return restore(state.get(RAW_SPACE, state["identity"]["observation_space"]))


def _batch_of_one(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: _batch_of_one(part) for key, part in observation.items()}
    if isinstance(observation, tuple):
        return tuple(_batch_of_one(part) for part in observation)
    return np.asarray(observation)[None]
