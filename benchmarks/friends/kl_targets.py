"""Whether KLEarlyStop, AdaptiveLearningRate and KLPenalty hold the measured KL at their targets.

    python -m benchmarks.friends.kl_targets [iterations]

Counted are the updates of the second half of the run. The KL after an update is that of the new policy from
the old one, exact, over all rows of the rollout; in the last epoch it is the mean over the minibatches,
each before its gradient step, as reported. The learning rate is the one the launcher begins with, the clip
range is wide.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import torch

from benchmarks.friends.running import train, variant
from ppo_and_friends.friends import Friend
from ppo_and_friends.ppo.agent import Agent
from ppo_and_friends.ppo.collector import evaluate_network
from ppo_and_friends.ppo.rollout import Rollout
from ppo_and_friends.ppo.trainer import Trainer
from ppo_and_friends.settings.experiment import Experiment, FriendSpec, Schedule, friend
from ppo_and_friends.settings.registry import resolve

TARGET = 0.01
VARIANTS: dict[str, tuple[FriendSpec, ...]] = {
    "PPO": (),
    "KLEarlyStop": (friend("KLEarlyStop", target=TARGET),),
    "KLEarlyStop, decide=epoch": (friend("KLEarlyStop", target=TARGET, decide="epoch"),),
    "AdaptiveLearningRate": (friend("AdaptiveLearningRate", target=TARGET),),
    "AdaptiveLearningRate, decide=step": (friend("AdaptiveLearningRate", target=TARGET, decide="step"),),
    "KLPenalty": (friend("KLPenalty", target=TARGET),),
}
ENVIRONMENTS = ("Pendulum", "LunarLander", "Hopper")


class Record(Friend):
    """Keeps the KL of every update."""

    def __init__(self) -> None:
        super().__init__()
        self.kls: list[float] = []

    def attach(self, agent: Agent) -> None:
        self._agent = (agent,)

    def after_estimation(self, rollout: Rollout) -> None:
        self._rollout = rollout

    def after_update(self, stats: dict[str, float]) -> None:
        rollout, (agent,) = self._rollout, self._agent
        parameters, _ = evaluate_network(agent.network, rollout.observations, agent.device)
        old = torch.from_numpy(rollout.policy_parameters).to(agent.device)
        kl = self.context.distribution.kl(old, parameters[:-1]).cpu().numpy()
        self.kls.append(float(kl[rollout.valid].mean()))


def prepared(name: str, iterations: int) -> Experiment:
    base = resolve(name)
    ppo = replace(
        base.ppo,
        rollout_timesteps=4096,
        minibatch_size=512,
        epochs=5,
        learning_rate=Schedule(base.ppo.learning_rate.start),
        clip_range=Schedule(0.3),
    )
    friends = tuple(
        each for each in base.friends if not each.name.startswith(("KL", "Adaptive", "LearningRate"))
    )
    return replace(base, ppo=ppo, friends=friends, num_timesteps=4096 * iterations - 2048)


def summary(kls: list[float]) -> str:
    """The share within a factor of 2 of the target, least, median and largest."""
    late = np.array(kls)
    within = np.mean((late > TARGET / 2) & (late < TARGET * 2))
    return f"{within:.0%} | {late.min():.4f} | {np.median(late):.4f} | {late.max():.4f}"


def main() -> None:
    iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 36
    print(f"Target {TARGET}. Within: the share of the updates within a factor 2 of it.\n")
    numbers = "within | least | median | largest"
    print(f"| environment | friend | after the update: {numbers} | in the last epoch: {numbers} | epochs |")
    print("|---" * 11 + "|")
    for name in ENVIRONMENTS:
        for label, friends in VARIANTS.items():
            reported: list[tuple[float, float]] = []

            def watch(
                _: Trainer, stats: dict[str, float], reported: list[tuple[float, float]] = reported
            ) -> None:
                reported.append((stats["kl"], stats["epochs"]))

            trainer = train(variant(prepared(name, iterations), *friends, friend(Record)), watch)
            record = next(each for each in trainer.friends if isinstance(each, Record))
            late = reported[len(reported) // 2 :]
            after, last = summary(record.kls[-len(late) :]), summary([kl for kl, _ in late])
            print(
                f"| {name} | {label} | {after} | {last} | {np.mean([e for _, e in late]):.1f} |", flush=True
            )


if __name__ == "__main__":
    main()
