"""MountainCar-v0, no shaping: PPO alone, with ICM and with RND, at the very same settings.

python -m benchmarks.friends.sparse_mountain_car [seeds]
"""

from __future__ import annotations

import sys

from benchmarks.friends.running import test_score, train, variant
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import FriendSpec, friend
from ppo_and_friends.settings.overrides import change_friends
from ppo_and_friends.settings.registry import resolve

VARIANTS: dict[str, tuple[FriendSpec, ...]] = {
    "PPO": (),
    "PPO + ICM": (friend("ICM"),),
    "PPO + RND": (friend("RND"),),
}
MARKS = (100_000, 200_000, 300_000, 400_000, 500_000)


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    plain = change_friends(resolve("MountainCar"), (), ("ICM",))
    print("| variant | seed | " + " | ".join(f"{mark // 1000}k" for mark in MARKS) + " | 100 test episodes |")
    print("|---" * (len(MARKS) + 3) + "|")
    for name, friends in VARIANTS.items():
        for seed in range(1, seeds + 1):
            curve: dict[int, float] = {}

            def watch(trainer: Trainer, stats: dict[str, float], curve: dict[int, float] = curve) -> None:
                for mark in MARKS:
                    if trainer.timesteps >= mark:
                        curve.setdefault(mark, stats["score_mean_100"])

            trainer = train(variant(plain, *friends, seed=seed, timesteps=500_000), watch)
            means = " | ".join(f"{curve[mark]:.1f}" for mark in MARKS)
            print(f"| {name} | {seed} | {means} | {test_score(trainer):.1f} |", flush=True)


if __name__ == "__main__":
    main()
