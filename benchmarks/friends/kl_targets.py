"""Whether KLEarlyStop, AdaptiveLearningRate and KLPenalty hold the measured KL at their targets.

    python -m benchmarks.friends.kl_targets [iterations]

The KL of an update is that of its last epoch, over all samples; counted are the updates of the second
half of the run. Learning rate and epochs are such that without a friend it is far from the target.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from benchmarks.friends.running import train, variant
from ppo_and_friends.experiment import Experiment, FriendSpec, Schedule, friend
from ppo_and_friends.registry import resolve
from ppo_and_friends.trainer import Trainer

TARGET = 0.01
VARIANTS: dict[str, tuple[FriendSpec, ...]] = {
    "PPO": (),
    "KLEarlyStop": (friend("KLEarlyStop", target=TARGET),),
    "AdaptiveLearningRate": (friend("AdaptiveLearningRate", target=TARGET),),
    "KLPenalty": (friend("KLPenalty", target=TARGET),),
}
ENVIRONMENTS = ("Pendulum", "LunarLander", "Hopper")


def prepared(name: str, iterations: int) -> Experiment:
    base = resolve(name)
    ppo = replace(
        base.ppo,
        rollout_timesteps=4096,
        minibatch_size=512,
        epochs=5,
        learning_rate=Schedule(1e-3),
        clip=Schedule(0.3),
    )
    friends = tuple(
        each for each in base.friends if not each.name.startswith(("KL", "Adaptive", "LearningRate"))
    )
    return replace(base, ppo=ppo, friends=friends, num_timesteps=4096 * iterations - 2048)


def main() -> None:
    iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    print(f"| environment | friend | median KL, target {TARGET} | quartiles | within a factor 2 |")
    print("|---|---|---|---|---|")
    for name in ENVIRONMENTS:
        for label, friends in VARIANTS.items():
            kls: list[float] = []

            def watch(_: Trainer, stats: dict[str, float], kls: list[float] = kls) -> None:
                kls.append(stats["kl"])

            train(variant(prepared(name, iterations), *friends), watch)
            late = np.array(kls[len(kls) // 2 :])
            low, median, high = np.quantile(late, [0.25, 0.5, 0.75])
            inside = np.mean((late > TARGET / 2) & (late < TARGET * 2))
            print(f"| {name} | {label} | {median:.4f} | {low:.4f} to {high:.4f} | {inside:.0%} |", flush=True)


if __name__ == "__main__":
    main()
