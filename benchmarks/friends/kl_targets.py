"""Whether KLEarlyStop, AdaptiveLearningRate and KLPenalty hold the measured KL at their targets.

    python -m benchmarks.friends.kl_targets [iterations]

Counted are the updates of the second half of the run: the KL to the old policy at all their gradient
steps, and in their last epoch, where it is largest. Learning rate and clip range are wide.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from benchmarks.friends.running import train, variant
from ppo_and_friends.experiment import Experiment, FriendSpec, Schedule, friend
from ppo_and_friends.friends import Controls, Friend
from ppo_and_friends.registry import resolve
from ppo_and_friends.trainer import Trainer

TARGET = 0.01
VARIANTS: dict[str, tuple[FriendSpec, ...]] = {
    "PPO": (),
    "KLEarlyStop": (friend("KLEarlyStop", target=TARGET),),
    "AdaptiveLearningRate": (friend("AdaptiveLearningRate", target=TARGET),),
    "AdaptiveLearningRate, once an update": (friend("AdaptiveLearningRate", target=TARGET, decide="update"),),
    "KLPenalty": (friend("KLPenalty", target=TARGET),),
}
ENVIRONMENTS = ("Pendulum", "LunarLander", "Hopper")


class Record(Friend):
    """Keeps the KL of every gradient step."""

    def __init__(self) -> None:
        super().__init__()
        self.kls: list[float] = []

    def after_minibatch(self, stats: dict[str, float], controls: Controls) -> None:
        self.kls.append(stats["kl"])


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


def summary(kls: list[float]) -> str:
    """Median and the share within a factor of 2 of the target."""
    late = np.array(kls)
    return f"{np.median(late):.4f} | {np.mean((late > TARGET / 2) & (late < TARGET * 2)):.0%}"


def main() -> None:
    iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    print(f"Target {TARGET}. Within: the share of the values that are within a factor 2 of it.\n")
    print("| environment | friend | KL at all steps, median | within | in the last epoch, median | within |")
    print("|---|---|---|---|---|---|")
    for name in ENVIRONMENTS:
        for label, friends in VARIANTS.items():
            updates: list[tuple[list[float], float]] = []

            def watch(
                trainer: Trainer,
                stats: dict[str, float],
                updates: list[tuple[list[float], float]] = updates,
            ) -> None:
                record = next(each for each in trainer.friends if isinstance(each, Record))
                updates.append((record.kls.copy(), stats["kl"]))
                record.kls.clear()

            train(variant(prepared(name, iterations), *friends, friend(Record)), watch)
            late = updates[len(updates) // 2 :]
            every = summary([kl for steps, _ in late for kl in steps])
            print(f"| {name} | {label} | {every} | {summary([kl for _, kl in late])} |", flush=True)


if __name__ == "__main__":
    main()
