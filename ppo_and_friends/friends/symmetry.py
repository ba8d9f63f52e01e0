"""A friend that teaches the policy a left-right symmetry."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ppo_and_friends.common.metric import Metric
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend, FriendContext
from ppo_and_friends.friends.mirror_maps import BODIES, Mirror, SignedPermutation, is_mirror
from ppo_and_friends.friends.observation_normalizer import ObservationNormalizer
from ppo_and_friends.networks.distributions import Gaussian
from ppo_and_friends.networks.model import Model
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.collector import evaluate_network
from ppo_and_friends.ppo.hooks import Controls
from ppo_and_friends.ppo.minibatches import Minibatch
from ppo_and_friends.ppo.rollout import Rollout


class SignedIndex:
    """Applies a signed permutation to the last axis of tensors."""

    def __init__(self, permutation: SignedPermutation, context: FriendContext) -> None:
        """Keep it as an index and signs, on the run's device and in its precision."""
        self.source = torch.tensor([abs(number) - 1 for number in permutation], device=context.device)
        signs = [1.0 if number > 0 else -1.0 for number in permutation]
        self.signs = torch.tensor(signs, device=context.device, dtype=context.dtype)

    def __call__(self, vectors: Tensor) -> Tensor:
        """[..., n] to [..., n]."""
        return vectors[..., self.source] * self.signs


class SymmetryAugmentation(Friend):
    """Learn from the mirror image of experience as well, where left and right are equivalent.

    Every minibatch is doubled by its mirror image, whose actions were as probable as the true ones; or a
    loss pulls the mirrored policy and value towards the unmirrored ones. Both double the update's
    time. The ObservationNormalizer's statistics become those of both halves. Maps are known
    for the bodies of ``mirror_maps.py``; others are given.
    """

    source = "arXiv:2403.04359; arXiv:1801.08093"
    works_with_memory = works_with_groups = False
    reported = (
        Metric("asymmetry", "Weighted loss of the asymmetry, mean over the update; only with `method=loss`"),
    )
    conflicts: tuple[str, ...] = ("ObservationHistory", "PreviousAction", "AgentIndex", "ICM")

    def __init__(
        self,
        method: Literal["augment", "loss"] = "augment",
        weight: float = 1.0,
        observation: tuple[int, ...] = (),
        action: tuple[int, ...] = (),
    ) -> None:
        """Choose the method, and the maps if the environment's aren't known.

        Args:
            method: Double the minibatches, or add a loss.
            weight: Of the loss, >= 0.
            observation: Signed permutation of 1 to n: what each component is in the mirror; for Pendulum's
                cosine, sine and speed, (1, -2, -3).
            action: The same for a Box; for a Discrete space the mirrored choices, 1 the first.
        """
        super().__init__()
        if weight < 0.0:
            raise UsageError(f"SymmetryAugmentation: weight must be at least 0, not {weight}.")
        for name, given in (("observation", observation), ("action", action)):
            if not is_mirror(given):
                raise UsageError(
                    f"SymmetryAugmentation: {name}={list(given)} must be a signed permutation of 1 to "
                    f"{len(given)} that undoes itself, such as [-1,3,2]."
                )
        if bool(observation) != bool(action):
            raise UsageError("SymmetryAugmentation: give both observation and action, or neither.")
        self.method, self.weight = method, weight
        if method == "loss":
            # ICM reads next observations from the original rollout; mirrored samples have none.
            self.conflicts = ("ObservationHistory", "PreviousAction", "AgentIndex")
        self._given = Mirror(observation, action) if observation else None

    def setup(self, context: FriendContext) -> None:
        """Find the maps and check that they fit the spaces."""
        super().setup(context)
        if context.critic_space is not None:
            raise UsageError(
                "SymmetryAugmentation can't mirror what the critic alone sees: "
                "use --without SymmetryAugmentation."
            )
        if context.mask_space is not None:
            raise UsageError(
                "SymmetryAugmentation can't mirror action masks: use --without SymmetryAugmentation, or "
                "--set environment.action_masks=off."
            )
        name = context.experiment.environment.id
        mirror = self._given or BODIES.get(name)
        if mirror is None:
            raise UsageError(
                f"SymmetryAugmentation has no mirror map for {name}, but for {', '.join(BODIES)}.\n"
                "Give it one: observation=[...],action=[...], signed permutations of 1 to n."
            )
        self._check(mirror, context)
        self._observation = SignedIndex(mirror.observation, context)
        self._choices: Tensor | None = None
        if isinstance(context.action_space, spaces.Discrete):
            self._choices = torch.tensor([number - 1 for number in mirror.action], device=context.device)
            self._policy_map = SignedIndex(mirror.action, context)
        else:
            self._action = SignedIndex(mirror.action, context)
            # Means change sign; log standard deviations only change places.
            size = len(mirror.action)
            log_stds = tuple(abs(number) + size for number in mirror.action)
            self._policy_map = SignedIndex((*mirror.action, *log_stds), context)

    def _check(self, mirror: Mirror, context: FriendContext) -> None:
        """Whether the maps are of the spaces' sizes, and the actions' bounds are alike in the mirror."""
        space, actions = context.observation_space, context.action_space
        plain = space.shape == (len(mirror.observation),) and space.dtype != np.uint8
        if isinstance(actions, spaces.Discrete):
            fits = len(mirror.action) == actions.n and min(mirror.action) > 0
        else:
            fits = isinstance(context.distribution, Gaussian) and actions.shape == (len(mirror.action),)
        if not (plain and fits):
            raise UsageError(
                f"SymmetryAugmentation: maps of {len(mirror.observation)} numbers for observations and "
                f"{len(mirror.action)} for actions don't fit {space} and {actions}; those are vectors of "
                "floats, and a vector or Discrete without signs."
            )
        if isinstance(actions, spaces.Box):
            source = np.abs(mirror.action) - 1
            low, high = actions.low[source], actions.high[source]
            flipped = np.array(mirror.action) < 0
            mirrored = np.where(flipped, -high, low), np.where(flipped, -low, high)
            if not (np.allclose(mirrored[0], actions.low) and np.allclose(mirrored[1], actions.high)):
                raise UsageError(f"SymmetryAugmentation: the bounds of {actions} aren't alike in the mirror.")

    def build(self, space: spaces.Box) -> None:
        """Refuse observations that other friends made longer."""
        if space.shape != (len(self._observation.source),):
            raise UsageError(
                f"SymmetryAugmentation can't mirror observations that friends made {space.shape} long."
            )

    def adapt(self, network: Model) -> Model:
        """Keep the network, which is evaluated on mirrored observations, too."""
        self._network = network
        return network

    def attach(self, agent: Agent) -> None:
        """Find the normaliser of observations."""
        self._normalizers = self.context.others(ObservationNormalizer)

    def before_update(self, controls: Controls) -> None:
        """Give the normaliser the moments of all observations and their mirror images together."""
        for normalizer in self._normalizers:
            source, signs = self._observation.source.cpu(), self._observation.signs.double().cpu()
            mean, variance = normalizer.mean, normalizer.variance
            mirrored = mean[source] * signs
            distance = 0.5 * (mean - mirrored)
            variance.copy_(0.5 * (variance + variance[source]) + distance.square())
            mean.copy_(0.5 * (mean + mirrored))

    def before_epoch(self, epoch: int, rollout: Rollout) -> bool:
        """Before the first epoch, evaluate the old policy on the mirrored rollout."""
        if self.method == "augment" and epoch == 0:
            mirrored = {"policy": self._observation(rollout.observations["policy"])}
            parameters, values = evaluate_network(self._network, rollout, mirrored)
            self._old = parameters[:-1].flatten(0, 1), values[:-1].flatten(0, 1)
        return False

    def before_minibatch(self, minibatch: Minibatch) -> None:
        """Append the mirror image of every sample."""
        if self.method != "augment":
            return
        # The step's size is measured from what the old policy did in the mirror, symmetric or not.
        for name, mirror_images in zip(
            ("old_policy_parameters", "old_value_outputs"), self._old, strict=True
        ):
            setattr(minibatch, name, torch.cat((getattr(minibatch, name), mirror_images[minibatch.samples])))
        actions = minibatch.actions
        mirrored = self._choices[actions] if self._choices is not None else self._action(actions)
        seen = minibatch.observations["policy"]
        minibatch.observations = {"policy": torch.cat((seen, self._observation(seen)))}
        minibatch.actions = torch.cat((actions, mirrored))
        # The mirror image was sampled with the probability of the original sample (arXiv:2403.04359).
        for name in (
            "samples",
            "states",
            "episode_starts",
            "old_log_probs",
            "advantages",
            "value_targets",
            "active",
        ):
            tensor = getattr(minibatch, name)
            setattr(minibatch, name, torch.cat((tensor, tensor)))
        minibatch.count *= 2.0

    def loss(self, minibatch: Minibatch) -> dict[str, Tensor]:
        """Squared differences of the mirrored policy's parameters and values from the unmirrored ones."""
        if self.method != "loss" or self.weight == 0.0:
            return {}
        parameters, values = self._network(self._observation(minibatch.observations["policy"]))
        wanted = self._policy_map(minibatch.policy_parameters).detach()
        policy = (parameters - wanted).square().sum(-1)
        value = (values - minibatch.value_outputs.detach()).square().sum(-1)
        return {"asymmetry": self.weight * minibatch.mean(policy + value)}
