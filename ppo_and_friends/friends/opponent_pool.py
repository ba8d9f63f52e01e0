"""Past versions of a policy, as opponents of the present one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppo_and_friends.networks.model import Model

Array = NDArray[Any]

Choice = Literal["latest", "uniform", "win_rate"]

ELO_STEP = 4.0
"""Most points of Elo's that a game can win or lose: about 20 of them are chance."""

RATE_STEP = 0.02
"""Weight of a game in the win rate against its opponent: that of about the last 50."""

HARDNESS = 2
"""Exponent of prioritised fictitious self-play: (1 - win rate)^2 (doi:10.1038/s41586-019-1724-z)."""


class OpponentPool:
    """Up to ``window`` snapshots of a network, with ratings. Slots are reused, the oldest first.

    Attributes:
        count: [] snapshots taken, in all.
        timesteps: [window] of the run, when each was taken.
        elo: [window] ratings of the snapshots.
        rating: [] Elo rating of the policy that learns.
        win_rates: [window] of the policy that learns against each: moving means, a draw counts as half.
    """

    def __init__(self, window: int, initial_elo: float, statistic: Callable[[str, Any], Tensor]) -> None:
        """Start empty.

        Args:
            window: Snapshots that are kept.
            initial_elo: Rating of the policy at the beginning.
            statistic: Makes a buffer that is saved with the run.
        """
        self.count = statistic("count", np.zeros(()))
        self.timesteps = statistic("timesteps", np.zeros(window))
        self.elo = statistic("elo", np.full(window, initial_elo))
        self.rating = statistic("rating", np.array(initial_elo))
        self.win_rates = statistic("win_rates", np.full(window, 0.5))
        self.window = window
        self.networks: list[Model] = []

    def allocate(self, network: Model) -> None:
        """Make room for copies of a network."""
        self.networks = [copy.deepcopy(network).requires_grad_(False) for _ in range(self.window)]

    def tensors(self) -> dict[str, Tensor]:
        """The snapshots' parameters and buffers, by name."""
        return {
            f"pool.{slot}.{name}": tensor
            for slot, network in enumerate(self.networks)
            for name, tensor in network.state_dict().items()
        }

    @property
    def filled(self) -> int:
        """Slots that hold a snapshot."""
        return min(int(self.count.item()), self.window)

    @property
    def latest(self) -> int:
        """Slot of the newest snapshot."""
        return (int(self.count.item()) - 1) % self.window

    def number(self, slot: int) -> int:
        """Which snapshot of the run a slot holds, counted from 1; slots are reused."""
        return int(self.count.item()) - (self.latest - slot) % self.window

    @torch.no_grad()
    def add(self, network: Model, timesteps: int) -> None:
        """Take a snapshot in the place of the oldest."""
        self.count += 1
        slot = self.latest
        for kept, now in zip(
            self.networks[slot].state_dict().values(), network.state_dict().values(), strict=True
        ):
            kept.copy_(now)
        self.timesteps[slot] = timesteps
        self.elo[slot] = self.rating
        self.win_rates[slot] = 0.5

    def choose(self, choice: Choice, generator: np.random.Generator) -> int:
        """A slot, at random where the choice says so."""
        if choice == "latest":
            return self.latest
        weights = np.ones(self.filled)
        if choice == "win_rate":
            weights = (1.0 - self.win_rates.numpy()[: self.filled]) ** HARDNESS + 1e-3
        return int(generator.choice(self.filled, p=weights / weights.sum()))

    def take(self, slot: int, result: float) -> None:
        """Take in the result of a game: 1 won, 0.5 drawn, 0 lost by the policy that learns."""
        expected = 1.0 / (1.0 + 10.0 ** ((self.elo[slot].item() - self.rating.item()) / 400.0))
        change = ELO_STEP * (result - expected)
        self.rating += change
        self.elo[slot] -= change
        self.win_rates[slot] += RATE_STEP * (result - self.win_rates[slot].item())
