"""What counts as solved, what PPO is known to reach, and what we aim at.

A score is the mean undiscounted return over whole episodes on the canonical Gymnasium environment,
most probable actions. The best published figures are of PPO with any settings; timesteps are agent steps.
"""

from __future__ import annotations

from dataclasses import dataclass

MILLION = 1_000_000

RIGHT = "19 of 20 answers right: each right one adds, each wrong one takes an equal part of 1."


@dataclass(frozen=True)
class Target:
    """A launcher's yardsticks; None: there is none."""

    ours: float
    """The mean score that the *worst* seed should reach."""
    timesteps: int
    """Within this many agent steps."""
    solved: float | None = None
    """Where the environment's authors (or its customary threshold) call it solved."""
    published: float | None = None
    """Best mean score known of a PPO."""
    published_timesteps: int | None = None
    """After this many agent steps; None: not given."""
    episodes: int = 100
    """Evaluation episodes."""
    reason: str = ""
    """Why just this score, where no published one is comparable: a sentence for the documentation."""


TARGETS: dict[str, Target] = {
    "CartPole": Target(500, 60_000, 475, 500, 100_000),
    "Pendulum": Target(-155, 150_000, None, -172, 100_000, episodes=500),  # its spread is wide
    "Acrobot": Target(-75, 500_000, -100, -73.5, MILLION),
    "MountainCar": Target(-105, 500_000, -110, -105.1, None),
    "MountainCarContinuous": Target(93, 200_000, 90, 92, None),
    "LunarLander": Target(265, 1_500_000, 200, 242, MILLION),
    "LunarLanderContinuous": Target(280, 1_500_000, 200, 271, MILLION),
    "BipedalWalker": Target(320, 4 * MILLION, 300, 319, None),
    "BipedalWalkerHardcore": Target(300, 25 * MILLION, 300, 313, 22 * MILLION),
    "InvertedPendulum": Target(1000, 150_000, 950, 1000, MILLION),
    "InvertedDoublePendulum": Target(9340, MILLION, 9100, 9350, None),
    "Hopper": Target(3500, 4 * MILLION, 3800, 3485, 4 * MILLION),
    "Walker2d": Target(6000, 10 * MILLION, None, 6300, 16 * MILLION),
    "HalfCheetah": Target(7500, 10 * MILLION, 4800, 7700, 16 * MILLION),
    "Swimmer": Target(355, 3 * MILLION, 360, 342, 145 * MILLION),
    "Ant": Target(6000, 20 * MILLION, 6000, 4429, 8_200_000),
    "Humanoid": Target(10_000, 20 * MILLION, None, 10_300, 16_400_000),
    "HumanoidStandup": Target(295_000, 10 * MILLION, None, 319_000, 10 * MILLION),
    "BreakoutPixels": Target(420, 10 * MILLION, None, 466, 10 * MILLION),
    "AssaultPixels": Target(6300, 10 * MILLION, None, 6249, 10 * MILLION),
    "BreakoutRAM": Target(350, 10 * MILLION),
    "AssaultRAM": Target(4000, 10 * MILLION),
    "CartPolePositions": Target(475, 150_000, 475, reason="CartPole-v1's own threshold, of at most 500."),
    "PendulumPositions": Target(
        -200, 300_000, reason="With velocities we aim at -155; here they must be found out first."
    ),
    "PendulumPrivileged": Target(-200, 300_000, reason="Like PendulumPositions."),
    "TMaze": Target(3.9, 500_000, reason="At most 4; a policy without memory gets 1.95."),
    "RepeatPreviousEasy": Target(0.9, MILLION, reason=RIGHT),
    "RepeatPreviousMedium": Target(0.9, MILLION, reason=RIGHT),
    "AutoencodeEasy": Target(0.9, MILLION, reason=RIGHT),
    "StatelessCartPole": Target(0.9, MILLION, reason="180 of 200 steps balanced, of which each adds 1/200."),
    "CardMemory": Target(0.95, 150_000, reason="At most 1; memory or masks alone get a third or less."),
}
