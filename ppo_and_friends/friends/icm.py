"""Curiosity: a reward for consequences of its actions that the agent can't yet predict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from ppo_and_friends.common.images import is_image
from ppo_and_friends.common.metric import Metric
from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.features import feature_network
from ppo_and_friends.friends.friend import Friend, FriendContext
from ppo_and_friends.friends.moments import global_moments
from ppo_and_friends.friends.normalizers import RewardNormalizer
from ppo_and_friends.networks.action_features import ActionFeatures
from ppo_and_friends.networks.layers import linear, mlp
from ppo_and_friends.ppo.minibatches import Minibatch
from ppo_and_friends.ppo.rollout import RewardStream, Rollout

Array = NDArray[Any]

CHUNK = 8192
"""Samples whose errors are computed at once; bounds the memory."""


class ICM(Friend):
    r"""Curiosity: reward steps whose outcome, in learned features, the agent predicts badly.

    An encoder learns features of observations from which an inverse model tells the action taken;
    a forward model predicts the next features from the present ones and the action. Its error is
    the reward :math:`\frac{\eta}{2} \lVert \hat\phi(s_{t+1}) - \phi(s_{t+1}) \rVert^2` (eq. 6).
    """

    source = "arXiv:1705.05363"
    reported = (
        Metric("reward", "Mean curiosity reward of a step, as it is learned from"),
        Metric("forward", "Weighted loss of the forward model, mean over the update"),
        Metric("inverse", "Weighted loss of the inverse model, mean over the update"),
    )

    def __init__(
        self,
        scale: float = 0.1,
        extrinsic_weight: float = 1.0,
        forward_share: float = 0.2,
        features: int = 32,
        hidden: tuple[int, ...] = (64,),
        lr: float = 1e-3,
        normalize: bool = True,
        own_stream: bool = False,
        gamma: float | None = None,
    ) -> None:
        """Choose how curious to be.

        Args:
            scale: Weight of the curiosity reward (eta), > 0.
            extrinsic_weight: Weight of the environment's reward, >= 0; 0: curiosity alone.
            forward_share: Of the forward loss in the sum with the inverse loss (beta, eq. 7), in [0, 1].
            features: Size of the learned features.
            hidden: Widths of the hidden layers of each of the three networks.
            lr: Adam's step size for them, > 0.
            normalize: Divide the curiosity reward by the standard deviation of its discounted sum.
            own_stream: Learn a value of its own for it; False: add it to the environment's.
            gamma: Discount factor of its own reward stream; None: PPO's.
        """
        super().__init__()
        if not (scale > 0.0 and extrinsic_weight >= 0.0 and lr > 0.0 and features > 0):
            raise UsageError(
                "ICM needs scale > 0, extrinsic_weight >= 0, lr > 0 and features > 0: "
                f"not {scale}, {extrinsic_weight}, {lr} and {features}."
            )
        if not 0.0 <= forward_share <= 1.0:
            raise UsageError(f"ICM: forward_share must be between 0 and 1, not {forward_share}.")
        self.scale, self.extrinsic_weight, self.forward_share = scale, extrinsic_weight, forward_share
        self.features, self.hidden, self.learning_rate = features, hidden, lr
        self.normalize, self.own_stream, self.gamma = normalize, own_stream, gamma
        self.normalizer = RewardNormalizer(gamma)
        self.own("normalizer", self.normalizer.state)
        self._mean = float("nan")

    def setup(self, context: FriendContext) -> None:
        """Name the stream, if there is one."""
        super().setup(context)
        self.normalizer.setup(context)
        ppo = context.experiment.ppo
        if self.own_stream:
            gamma = ppo.gamma if self.gamma is None else self.gamma
            self.streams = (RewardStream("curiosity", gamma, ppo.gae_lambda),)

    def rows(self) -> dict[str, Array]:
        """The running sums of its rewards."""
        return self.normalizer.rows()

    def restore_rows(self, rows: Mapping[str, Array]) -> None:
        """Go on with them."""
        self.normalizer.restore_rows(rows)

    def reads_images(self, space: spaces.Box) -> bool:
        """Of images it makes features by convolutions."""
        return is_image(space)

    def build(self, space: spaces.Box) -> None:
        """Build the three networks."""
        context, generator = self.context, self.weight_generator()
        self.actions = self.own("actions", ActionFeatures(context.distribution, context.action_space))
        self.encoder = self.own("encoder", feature_network(space, self.hidden, self.features, generator))
        self.inverse_model = self.own(
            "inverse_model", self._model(2 * self.features, self.actions.guess_size, generator)
        )
        forward = self._model(self.features + self.actions.size, self.features, generator)
        self.forward_model = self.own("forward_model", forward)
        # Not all of the friend: the normaliser's statistics stay in float64 on the CPU.
        self.actions.to(context.device)
        for network in (self.encoder, self.inverse_model, self.forward_model):
            network.to(context.device, context.dtype)

    def _model(self, inputs: int, outputs: int, generator: torch.Generator) -> nn.Sequential:
        last = linear((inputs, *self.hidden)[-1], outputs, 1.0, generator)
        return nn.Sequential(mlp(inputs, self.hidden, "leaky_relu", generator), last)

    def _errors(self, observations: Tensor, following: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """[N] squared prediction errors, halved, and [N] inverse losses."""
        present, future = self.encoder(torch.cat((observations, following))).chunk(2)
        taken = self.actions(actions).to(present)
        predicted = self.forward_model(torch.cat((present, taken), dim=-1))
        forward = 0.5 * (predicted - future).square().sum(-1)
        guess = self.inverse_model(torch.cat((present, future), dim=-1))
        return forward, self.actions.mismatch(guess, actions)

    def after_rollout(self, rollout: Rollout) -> None:
        """Predict the whole rollout, then mix the rewards or add a stream."""
        device = self.context.device
        self._observations = rollout.observations["policy"].flatten(0, 1)
        self._envs = rollout.num_envs
        actions = rollout.actions.flatten(0, 1)
        with torch.no_grad():
            seen, envs = self._observations, self._envs
            samples = torch.arange(len(actions), device=device)
            errors = [
                self._errors(seen[part], seen[part + envs], actions[part])[0] for part in samples.split(CHUNK)
            ]
        extrinsic = rollout.rewards["extrinsic"]
        rewards = torch.cat(errors).view(extrinsic.shape).to(extrinsic.dtype) * rollout.active
        if self.normalize:
            rewards = self.normalizer.scaled(rewards, rollout.terminated | rollout.truncated, rollout)
        rewards = self.scale * rewards
        self._mean = float(global_moments(rewards, rollout.active, self.context.communicator)[1])
        if self.own_stream:
            rollout.rewards["curiosity"] = rewards
            rewards = rewards * 0.0
        rollout.rewards["extrinsic"] = self.extrinsic_weight * extrinsic + rewards

    def loss(self, minibatch: Minibatch) -> dict[str, Tensor]:
        """The forward and the inverse model's losses (eq. 7)."""
        following = self._observations[minibatch.samples + self._envs]
        forward, inverse = self._errors(minibatch.observations["policy"], following, minibatch.actions)
        return {
            "forward": self.forward_share * minibatch.mean(forward),
            "inverse": (1.0 - self.forward_share) * minibatch.mean(inverse),
        }

    def metrics(self) -> dict[str, float]:
        """The mean curiosity reward of a step, as it is learned from."""
        return {"reward": self._mean}
