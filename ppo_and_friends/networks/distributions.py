"""Action distributions as functions of flat parameters and of noise drawn beforehand.

A distribution object holds no state: [N, P] parameters go in, and what they mean is said here.
Sampling takes its noise from outside, so that a whole rollout's can be drawn at once and depends on
nothing but the environment's index.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ppo_and_friends.distributed.randomness import NoiseKind

NODES = 32
"""Nodes of the quadrature for the squashed Gaussian's entropy."""


class Distribution(ABC):
    """Over the actions of one kind of space."""

    parameter_size: int
    """P, numbers that say which distribution it is."""

    output_size: int
    """Numbers of these that the network computes from the observation."""

    action_size: int
    """A, numbers in an action as it is stored."""

    action_dtype: torch.dtype | None
    """Of stored actions; None: the network's floating-point type."""

    noise_kind: NoiseKind
    """Which noise ``sample`` wants."""

    noise_size: int
    """How many numbers of noise for an action."""

    mask_size: int = 0
    """M, alternatives of all choices of an action, that a mask may forbid; 0: there are none."""

    def expect_masks(self) -> None:  # noqa: B027
        """Called once if parameters will be ``masked``: choose what is faster then."""

    def masked(self, parameters: Tensor, masks: Tensor) -> Tensor:
        """Parameters [..., P] of the distribution given that an action is legal by masks [..., M] bool.

        All other methods understand them: what is illegal has probability 0, and adds nothing to entropies
        and divergences. No gradient passes to what an illegal alternative was given.
        """
        return parameters

    def any_legal(self, masks: Tensor) -> Tensor:
        """[...] bool: whether masks [..., M] leave an alternative in each choice."""
        return masks.new_ones(masks.shape[:-1])

    @abstractmethod
    def sample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Actions [N, A] for parameters [N, P] and noise [N, noise_size]."""

    @abstractmethod
    def mode(self, parameters: Tensor) -> Tensor:
        """The most probable actions, [N, A] (of a squashed Gaussian: the squashed mean)."""

    @abstractmethod
    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        """[N], log probability (density) of actions [N, A]."""

    @abstractmethod
    def entropy(self, parameters: Tensor) -> Tensor:
        """[N], in nats."""

    @abstractmethod
    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """[N], the divergence KL(old || new) in nats, differentiable in both."""


LOG2_E = math.log2(math.e)

ILLEGAL = -1e9
"""The logit of what can't be. Finite, so that p * log p is 0 and not NaN."""


class Categorical(Distribution):
    """One or several independent choices: Discrete and MultiDiscrete spaces."""

    action_dtype = torch.int64
    noise_kind: NoiseKind = "uniform"

    def __init__(self, choices: tuple[int, ...]) -> None:
        """Args: choices: The number of alternatives of each choice."""
        self.choices = choices
        self.parameter_size = self.output_size = self.mask_size = sum(choices)
        self.action_size = self.noise_size = len(choices)
        self._width = max(choices)
        self._expects_masks = False
        self.even = min(choices) == self._width
        # Choices of unlike width are laid out in a padded table whose padding has probability 0.
        starts = np.cumsum((0, *choices[:-1]))
        columns = np.arange(self._width)
        self._gather = torch.tensor(
            np.minimum(starts[:, None] + columns, self.parameter_size - 1), dtype=torch.int64
        )
        self._padding = torch.tensor(columns >= np.array(choices)[:, None])

    def log_probs(self, parameters: Tensor) -> Tensor:
        """[N, A, width], normalised."""
        if self.even:
            logits = parameters.unflatten(-1, (self.action_size, self._width))
        else:
            logits = parameters[..., self._gather.to(parameters.device)]
            logits = logits.masked_fill(self._padding.to(parameters.device), ILLEGAL)
        return functional.log_softmax(logits, dim=-1)

    def probabilities(self, log_probs: Tensor) -> Tensor:
        """Their exponentials."""
        return log_probs.exp() if not self._expects_masks else (log_probs * LOG2_E).exp2()

    def expect_masks(self) -> None:
        """Of what is nearly 0, MKL's ``exp`` takes ten times as long; ``exp2`` isn't MKL's."""
        self._expects_masks = True

    def masked(self, parameters: Tensor, masks: Tensor) -> Tensor:
        """Logits, those of illegal alternatives `ILLEGAL`."""
        return torch.where(masks, parameters, ILLEGAL)

    def any_legal(self, masks: Tensor) -> Tensor:
        """Whether each choice has a legal alternative."""
        return torch.stack([own.any(-1) for own in masks.split(self.choices, -1)]).all(0)

    def sample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Inverse of the cumulative distribution at the (uniform) noise."""
        cumulative = self.probabilities(self.log_probs(parameters)).cumsum(-1)
        drawn = (cumulative[..., :-1] <= noise.unsqueeze(-1)).sum(-1)
        # Rounding may leave the last sum below the noise: the last possible alternative takes the rest.
        return torch.minimum(drawn, (cumulative < cumulative[..., -1:]).sum(-1))

    def mode(self, parameters: Tensor) -> Tensor:
        """The most probable alternative of each choice."""
        return self.log_probs(parameters).argmax(-1)

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        """Sum over the choices."""
        return self.log_probs(parameters).gather(-1, actions.unsqueeze(-1)).squeeze(-1).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """Sum over the choices."""
        log_probs = self.log_probs(parameters)
        return -(self.probabilities(log_probs) * log_probs).sum((-2, -1))

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Sum over the choices."""
        old_log, new_log = self.log_probs(old), self.log_probs(new)
        return (self.probabilities(old_log) * (old_log - new_log)).sum((-2, -1))


class Bernoulli(Distribution):
    """Independent yes-or-no choices: MultiBinary spaces."""

    action_dtype = torch.int64
    noise_kind: NoiseKind = "uniform"

    def __init__(self, size: int) -> None:
        """Args: size: The number of choices."""
        self.parameter_size = self.output_size = self.action_size = self.noise_size = size
        self.mask_size = 2 * size

    def masked(self, parameters: Tensor, masks: Tensor) -> Tensor:
        """Logits of yes; masks are of no and yes for each choice in turn."""
        no, yes = masks.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.where(no, torch.where(yes, parameters, ILLEGAL), -ILLEGAL)

    def any_legal(self, masks: Tensor) -> Tensor:
        """Whether each choice has a legal alternative."""
        legal: Tensor = masks.unflatten(-1, (-1, 2)).any(-1).all(-1)
        return legal

    def sample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Yes where the (uniform) noise is below the probability."""
        return (noise < parameters.sigmoid()).long()

    def mode(self, parameters: Tensor) -> Tensor:
        """Yes where that is more probable than no."""
        return (parameters > 0).long()

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        """Sum over the choices."""
        signs = actions.to(parameters.dtype) * 2.0 - 1.0
        return functional.logsigmoid(signs * parameters).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """Sum over the choices."""
        yes, no = functional.logsigmoid(parameters), functional.logsigmoid(-parameters)
        return -(yes.exp() * yes + no.exp() * no).sum(-1)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Sum over the choices."""
        probability = old.sigmoid()
        yes = functional.logsigmoid(old) - functional.logsigmoid(new)
        no = functional.logsigmoid(-old) - functional.logsigmoid(-new)
        return (probability * yes + (1.0 - probability) * no).sum(-1)


class Gaussian(Distribution):
    """Independent normal distributions: Box spaces. Parameters are means, then log standard deviations."""

    action_dtype = None
    noise_kind: NoiseKind = "normal"

    def __init__(self, size: int) -> None:
        """Args: size: The number of dimensions."""
        self.output_size = self.action_size = self.noise_size = size
        self.parameter_size = 2 * size

    def sample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """The mean plus the standard deviation times the (normal) noise."""
        mean, log_std = parameters.chunk(2, dim=-1)
        return mean + log_std.exp() * noise

    def mode(self, parameters: Tensor) -> Tensor:
        """The mean."""
        return parameters[..., : self.output_size]

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        """Sum over the dimensions."""
        mean, log_std = parameters.chunk(2, dim=-1)
        scaled = (actions - mean) * (-log_std).exp()
        constant = 0.5 * math.log(2.0 * math.pi) * self.output_size
        return -(0.5 * scaled.square() + log_std).sum(-1) - constant

    def entropy(self, parameters: Tensor) -> Tensor:
        """Sum over the dimensions."""
        constant = 0.5 * math.log(2.0 * math.pi * math.e) * self.output_size
        return parameters[..., self.output_size :].sum(-1) + constant

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Sum over the dimensions."""
        old_mean, old_log = old.chunk(2, dim=-1)
        new_mean, new_log = new.chunk(2, dim=-1)
        spread = (2.0 * (old_log - new_log)).exp()
        shift = ((old_mean - new_mean) * (-new_log).exp()).square()
        return (new_log - old_log + 0.5 * (spread + shift - 1.0)).sum(-1)


class SquashedGaussian(Gaussian):
    """Gaussian whose draws are squashed by tanh into (-1, 1) (arXiv:1801.01290, appendix C).

    Actions are stored before the squashing, where their density can't be lost to rounding. KL is
    that of the Gaussians, since it doesn't change under an invertible map.
    """

    def __init__(self, size: int) -> None:
        """Args: size: The number of dimensions."""
        super().__init__(size)
        # Evenly spaced, since the log derivative is smooth on a scale of its own, however wide the Gaussian:
        # the nodes of Gauss and Hermite lie twice as far apart in the middle.
        nodes = np.linspace(-5.0, 5.0, NODES)
        weights = np.exp(-0.5 * nodes**2)
        self._nodes = torch.tensor(nodes)
        self._weights = torch.tensor(weights / weights.sum())

    @staticmethod
    def _log_derivative(actions: Tensor) -> Tensor:
        """log(1 - tanh(u)^2), in a form that is exact for large u."""
        return 2.0 * (math.log(2.0) - actions - functional.softplus(-2.0 * actions))

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        """The Gaussian's minus the log derivative of tanh (eq. 21 of the paper)."""
        return super().log_prob(parameters, actions) - self._log_derivative(actions).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """The Gaussian's plus E[log(1 - tanh(u)^2)], by the trapezoidal rule over 5 sigma to each side.

        Value and gradients are good to 1e-3 up to a standard deviation of 3 before the squashing, gradients
        to 1 % at 4 and to 3 % at 5, and worse beyond: there nearly every action is at a bound.
        """
        mean, log_std = parameters.chunk(2, dim=-1)
        draws = mean.unsqueeze(-1) + log_std.exp().unsqueeze(-1) * self._nodes.to(mean)
        return super().entropy(parameters) + (self._log_derivative(draws) * self._weights.to(mean)).sum(
            (-2, -1)
        )
