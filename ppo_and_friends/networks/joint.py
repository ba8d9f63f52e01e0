"""Several independent distributions as one: action spaces that are a Dict or a Tuple of other ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ppo_and_friends.networks.distributions import Distribution


class Joint(Distribution):
    """The product of independent parts, whose log probabilities, entropies and divergences add.

    Parameters are what the network computes for each part, then what it doesn't (logs of standard
    deviations). An action is those of the parts, one after the other; choices are whole floats if any part
    is continuous.
    """

    def __init__(self, parts: Sequence[Distribution]) -> None:
        """Args: parts: At least one."""
        self.parts = tuple(parts)
        self.output_size = sum(part.output_size for part in parts)
        self.parameter_size = sum(part.parameter_size for part in parts)
        self.action_size = sum(part.action_size for part in parts)
        self.noise_size = sum(part.noise_size for part in parts)
        self.mask_size = sum(part.mask_size for part in parts)
        self.noise_kind = "normal" if any(part.noise_kind == "normal" for part in parts) else "uniform"
        choices = all(part.action_dtype is torch.int64 for part in parts)
        self.action_dtype = torch.int64 if choices else None

    def parameters_of_parts(self, parameters: Tensor) -> list[Tensor]:
        """[..., P] as [..., P of the part] for each part."""
        outputs, state_independent = parameters[..., : self.output_size], parameters[..., self.output_size :]
        sizes = [part.output_size for part in self.parts]
        extra = [part.parameter_size - part.output_size for part in self.parts]
        return [
            torch.cat((computed, rest), dim=-1) if rest.shape[-1] else computed
            for computed, rest in zip(
                outputs.split(sizes, -1), state_independent.split(extra, -1), strict=True
            )
        ]

    def actions_of_parts(self, actions: Tensor) -> list[Tensor]:
        """[..., A] as [..., A of the part] for each part, choices as integers."""
        split = actions.split([part.action_size for part in self.parts], -1)
        return [
            own.long() if part.action_dtype is torch.int64 else own
            for part, own in zip(self.parts, split, strict=True)
        ]

    def expect_masks(self) -> None:
        """All parts do."""
        for part in self.parts:
            part.expect_masks()

    def masked(self, parameters: Tensor, masks: Tensor) -> Tensor:
        """Each part's, by masks of its own, one after the other."""
        outputs, state_independent = parameters[..., : self.output_size], parameters[..., self.output_size :]
        split = outputs.split([part.output_size for part in self.parts], -1)
        own = masks.split([part.mask_size for part in self.parts], -1)
        computed = [part.masked(*pair) for part, *pair in zip(self.parts, split, own, strict=True)]
        return torch.cat((*computed, state_independent), dim=-1)

    def any_legal(self, masks: Tensor) -> Tensor:
        """Whether each choice of each part has a legal alternative."""
        own = masks.split([part.mask_size for part in self.parts], -1)
        return torch.stack([part.any_legal(one) for part, one in zip(self.parts, own, strict=True)]).all(0)

    def sample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Each part's, by noise of its own: the uniform is the normal one's distribution function."""
        split = noise.split([part.noise_size for part in self.parts], -1)
        drawn = [
            part.sample(own, self._noise_of(part, each))
            for part, own, each in zip(self.parts, self.parameters_of_parts(parameters), split, strict=True)
        ]
        return torch.cat(drawn, dim=-1)

    def _noise_of(self, part: Distribution, noise: Tensor) -> Tensor:
        if part.noise_kind == self.noise_kind:
            return noise
        # Below 1, as uniform noise is: rounding would give 1 where the normal one is above 5.
        uniform: Tensor = torch.special.ndtr(noise)
        return uniform.clamp_max(1.0 - torch.finfo(noise.dtype).eps)

    def mode(self, parameters: Tensor) -> Tensor:
        """Each part's."""
        pairs = zip(self.parts, self.parameters_of_parts(parameters), strict=True)
        return torch.cat([part.mode(own) for part, own in pairs], dim=-1)

    def log_prob(self, parameters: Tensor, actions: Tensor) -> Tensor:
        """Sum over the parts."""
        own = zip(self.parameters_of_parts(parameters), self.actions_of_parts(actions), strict=True)
        pairs = zip(self.parts, own, strict=True)
        return _sum(part.log_prob(parameter, action) for part, (parameter, action) in pairs)

    def entropy(self, parameters: Tensor) -> Tensor:
        """Sum over the parts."""
        pairs = zip(self.parts, self.parameters_of_parts(parameters), strict=True)
        return _sum(part.entropy(own) for part, own in pairs)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Sum over the parts."""
        own = zip(self.parameters_of_parts(old), self.parameters_of_parts(new), strict=True)
        return _sum(part.kl(before, after) for part, (before, after) in zip(self.parts, own, strict=True))


def _sum(terms: Iterator[Tensor]) -> Tensor:
    total = next(terms)
    for term in terms:
        total = total + term
    return total
