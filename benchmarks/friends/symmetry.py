"""Whether learning from the mirror image, too, pays: LunarLander and Walker2d with and without.

python -m benchmarks.friends.symmetry [seeds [environment]]
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

from benchmarks.friends.running import test_score, train, variant
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import FriendSpec, friend
from ppo_and_friends.settings.registry import resolve

BUDGETS = {"LunarLander": 300_000, "Walker2d": 400_000}
VARIANTS: dict[str, tuple[FriendSpec, ...]] = {
    "plain": (),
    "SymmetryAugmentation": (friend("SymmetryAugmentation"),),
    "SymmetryAugmentation, method=loss": (friend("SymmetryAugmentation", method="loss"),),
}


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    chosen = sys.argv[2:] or list(BUDGETS)
    print("| environment | variant | seed | half-way | at the end | 20 test episodes | CPU seconds |")
    print("|---|---|---|---|---|---|---|")
    for name in chosen:
        timesteps = BUDGETS[name]
        # The launcher's schedules, run through in the shorter time.
        base = replace(resolve(name), num_timesteps=timesteps)
        for seed in range(1, seeds + 1):
            for label, friends in VARIANTS.items():
                curve: list[tuple[int, float]] = []

                def watch(
                    trainer: Trainer, stats: dict[str, float], curve: list[tuple[int, float]] = curve
                ) -> None:
                    curve.append((trainer.timesteps, stats["score_mean_100"]))

                start = time.process_time()
                trainer = train(variant(base, *friends, seed=seed), watch)
                seconds = time.process_time() - start
                half = next(score for done, score in curve if done >= timesteps / 2)
                scores = f"{half:.0f} | {curve[-1][1]:.0f} | {test_score(trainer, 20):.0f}"
                print(f"| {name} | {label} | {seed} | {scores} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
