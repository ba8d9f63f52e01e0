"""Environments that say which actions are legal, in ``info["action_mask"]``."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Array = NDArray[Any]

SUITS = 4


class ManyActions(gymnasium.Env[Array, np.int64]):
    """A deck of many cards, of which a hand of a few may be played: the best card of the hand earns 1.

    How good a card is isn't shown, and is the same in all games. An illegal card earns nothing. A game is 20
    hands long, so 20 is the most. The observation says how much of it has passed.
    """

    def __init__(self, actions: int = 1000, legal: int = 3, hands: int = 20) -> None:
        """Choose the sizes.

        Args:
            actions: Cards in the deck.
            legal: Cards in a hand.
            hands: Steps of a game.
        """
        self.observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Discrete(actions)
        self.legal, self.hands = legal, hands
        self._worth = np.random.default_rng(0).permutation(actions)
        self._hand: Array = np.arange(legal)
        self._t = 0

    def _deal(self) -> tuple[Array, dict[str, Any]]:
        size = len(self._worth)
        # Drawn until they differ: to shuffle the deck would take longer than all else.
        self._hand = self.np_random.integers(size, size=self.legal)
        while len(set(self._hand.tolist())) < self.legal:
            self._hand = self.np_random.integers(size, size=self.legal)
        mask = np.zeros(size, np.bool_)
        mask[self._hand] = True
        return np.array([self._t / self.hands], np.float32), {"action_mask": mask}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Array, dict[str, Any]]:
        """Begin a game."""
        super().reset(seed=seed)
        self._t = 0
        return self._deal()

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Play a card."""
        best = self._hand[self._worth[self._hand].argmax()]
        self._t += 1
        observation, info = self._deal()
        return observation, float(action == best), self._t == self.hands, False, info


class CardMemory(gymnasium.Env[Array, np.int64]):
    """Play a card of the suit that was shown some steps ago; three cards of different suits may be played.

    Right is worth 1 / steps, so that 1 is the most. Without memory, one in three is right. Without masks
    nothing tells which three of the 52 cards are legal: who remembers the suit is right one time in 13.
    """

    def __init__(self, delay: int = 3, steps: int = 32, ranks: int = 13) -> None:
        """Choose the sizes.

        Args:
            delay: Steps ago that the suit was shown, >= 1.
            steps: Steps of a game that count; ``delay`` more come before them, and earn nothing.
            ranks: Cards of each of four suits; card c is of suit c // ranks.
        """
        self.observation_space = spaces.Box(0.0, 1.0, (SUITS,), np.float32)
        self.action_space = spaces.Discrete(SUITS * ranks)
        self.delay, self.steps, self.ranks = delay, steps, ranks
        self._shown: list[int] = []
        self._mask = np.ones(SUITS * ranks, np.bool_)

    def _deal(self) -> tuple[Array, dict[str, Any]]:
        """Show a suit; of the cards in hand one is of the suit that was shown ``delay`` steps ago."""
        self._shown.append(int(self.np_random.integers(SUITS)))
        asked = self._shown[-1 - self.delay] if len(self._shown) > self.delay else self._shown[0]
        missing = (asked + int(self.np_random.integers(1, SUITS))) % SUITS
        cards = np.arange(SUITS) * self.ranks + self.np_random.integers(self.ranks, size=SUITS)
        self._mask = np.zeros(SUITS * self.ranks, np.bool_)
        self._mask[cards] = True
        self._mask[cards[missing]] = False
        observation = np.zeros(SUITS, np.float32)
        observation[self._shown[-1]] = 1.0
        return observation, {"action_mask": self._mask}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Array, dict[str, Any]]:
        """Begin a game."""
        super().reset(seed=seed)
        self._shown = []
        return self._deal()

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Play a card."""
        counts = len(self._shown) > self.delay
        right = counts and self._mask[action] and action // self.ranks == self._shown[-1 - self.delay]
        over = len(self._shown) == self.steps + self.delay
        observation, info = self._deal()
        return observation, float(right) / self.steps, over, False, info
