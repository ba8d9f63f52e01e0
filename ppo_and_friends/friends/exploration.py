"""Friends that correlate exploration over time, leaving each single action's distribution as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ppo_and_friends.errors import UsageError
from ppo_and_friends.friends.friend import Friend
from ppo_and_friends.ppo.hooks import RolloutRequest

Array = NDArray[Any]


def coloured(white: Array, exponent: float) -> Array:
    r"""White normal noise filtered so that its power falls as :math:`f^{-\beta}`.

    The filter is circular and its power is 1, so every sample stays exactly standard normal, and
    so are the log probabilities of the actions it leads to. The lowest frequency's power is that
    of one period in T, for a finite variance (Timmer and Koenig 1995).

    Args:
        white: [T, ...], independent standard normal samples.
        exponent: Beta: 0 white, 1 pink, 2 red.

    Returns:
        [T, ...] float64, standard normal samples correlated along the first axis.
    """
    steps = white.shape[0]
    frequencies = np.fft.rfftfreq(steps)
    amplitudes = np.maximum(frequencies, 1.0 / steps) ** (-exponent / 2.0)
    # Frequencies strictly between 0 and 1/2 stand for their negatives as well.
    twins = np.where((frequencies > 0.0) & (frequencies < 0.5), 2.0, 1.0)
    amplitudes /= np.sqrt((twins * amplitudes**2).sum() / steps)
    spectrum = np.fft.rfft(white, axis=0)
    shape = (-1, *(1,) * (white.ndim - 1))
    return np.asarray(np.fft.irfft(spectrum * amplitudes.reshape(shape), steps, axis=0))


class CorrelatedNoise(Friend):
    """Draw actions with coloured noise, so that exploration keeps its direction for longer.

    The noise is coloured within a rollout. Discrete actions, drawn from uniform noise, get uniform
    noise with the same correlations (by way of the normal distribution).
    """

    source = "arXiv:2312.11091"

    def __init__(self, exponent: float = 0.5) -> None:
        """Args: exponent: Of the noise's power spectrum, in [0, 4]: 0 white, 1 pink, 2 red."""
        super().__init__()
        if not 0.0 <= exponent <= 4.0:
            raise UsageError(f"CorrelatedNoise: exponent must be between 0 and 4, not {exponent}.")
        self.exponent = exponent

    def before_rollout(self, request: RolloutRequest) -> None:
        """Colour the rollout's noise. It is keyed by environment already, and stays so."""
        noise = request.noise.astype(np.float64)
        if self.context.distribution.noise_kind == "normal":
            request.noise = coloured(noise, self.exponent).astype(request.noise.dtype)
            return
        inner = np.clip(noise, 1e-7, 1.0 - 1e-7)
        normal = torch.special.ndtri(torch.from_numpy(inner)).numpy()
        uniform = torch.special.ndtr(torch.from_numpy(coloured(normal, self.exponent))).numpy()
        # Just below 1, which uniform noise never reaches, in single precision too.
        request.noise = np.minimum(uniform, 1.0 - 2.0**-24).astype(request.noise.dtype)
