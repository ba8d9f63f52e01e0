"""What is learned by small runs of every launcher and every friend, as a few numbers for each tensor.

``digests.json`` has them as they were when it was written; ``test_digests.py`` compares. A change that
means to leave all results alone must leave these alone:

    python tests/digests.py --exact             are they the same to the last bit?
    python tests/digests.py --exact pictures    of these experiments only
    python tests/digests.py --write cards       record these anew, after a change that means to change them
    python tests/digests.py --write             record all of them anew
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from torch import Tensor

from ppo_and_friends.settings.experiment import (
    EnvironmentSettings,
    Experiment,
    NetworkSettings,
    cosine,
    friend,
    linear,
    steps,
)
from ppo_and_friends.settings.registry import all_launchers, resolve
from tests.agents.nim import nim
from tests.agents.toys import MORTAL, squad
from tests.beginnings import begun, played
from tests.engine import Identity, experiment
from tests.friends.runs import build, drift

FILE = Path(__file__).with_suffix(".json")

Digest = dict[str, Any]
"""Of a tensor: its shape, and three sums over it."""

ITERATIONS = 2
SMALL = {"rollout_timesteps": 128, "minibatch_size": 32, "epochs": 2}
SMALLER = {"rollout_timesteps": 64, "minibatch_size": 16, "epochs": 2}
"""For the Nature CNN, which is slow in double precision."""

NUM_ENVS = 4
NUM_TIMESTEPS = 512
"""The second iteration is a quarter of the way along every schedule, or an eighth of it."""

small = partial(
    experiment, num_envs=NUM_ENVS, num_timesteps=NUM_TIMESTEPS, precision="float64", **(SMALL | {"epochs": 3})
)


def launched(name: str) -> Experiment:
    """A launcher's experiment in double precision, with less of everything that takes time."""
    chosen = resolve(name)
    environment = replace(chosen.environment, num_envs=NUM_ENVS)
    ppo = replace(chosen.ppo, **(SMALLER if name.endswith("Pixels") else SMALL))
    if ppo.sequence_length is not None:
        ppo = replace(ppo, sequence_length=8)  # which divides the shorter rollouts, too
    return replace(
        chosen,
        environment=environment,
        ppo=ppo,
        num_timesteps=NUM_TIMESTEPS,
        device="cpu",
        precision="float64",
    )


def layers(activation: str, **settings: Any) -> NetworkSettings:
    return NetworkSettings(actor_hidden=(12, 8), critic_hidden=(16,), activation=activation, **settings)  # type: ignore[arg-type]


def normalised_cart_pole() -> Experiment:
    friends = (
        friend("ObservationNormalizer"),
        friend("ObservationClip", limit=1.5),
        friend("RewardNormalizer"),
        friend("RewardClip", low=linear(0.06, -0.5), high=0.2),
        friend("AdvantageNormalizer"),
        friend("KLEarlyStop", target=0.0004),
        friend("Evaluator", every=128, episodes=2),
        friend("BestPolicyKeeper"),
        friend("VideoRecorder", every=128),
    )
    return small(
        "CartPole-v1",
        friends,
        network=layers("tanh"),
        learning_rate=steps(3e-3, (200, 1.5e-3)),
        clip_range=linear(0.05, 0.01),
        entropy_coefficient=cosine(0.05, 0.001),
    )


def fading_pendulum() -> Experiment:
    friends = (
        friend("CorrelatedNoise", exponent=0.8),
        friend("RewardScale", factor=0.1),
        friend("ValueNormalizer"),
        friend("AdvantageNormalizer"),
        friend("AdaptiveLearningRate", target=linear(0.01, 0.002)),
        friend("StdClip", limit=cosine(0.9, 0.3)),
        friend("AdvantageRecompute"),
        friend("BootstrapClip", range="rewards"),
        friend("SegmentLength", steps=5),
        friend("HardReset", probability=0.9),
    )
    network = layers("relu", log_std_init=0.2)
    return small("Pendulum-v1", friends, network=network, value_clip_range=0.2, clip_range="0.3:0.1")


def squashed_state_dependent() -> Experiment:
    friends = (
        friend("StateDependentExploration", resample_every=3),
        friend("PopArt"),
        friend("ValueErrorClip", limit=0.5),
        friend("GradientClip", limit=0.01),
        friend("KLPenalty", target=0.002),
    )
    network = layers("elu", squash=True, actor_output_gain=0.5)
    return small(drift(), friends, network=network, max_grad_norm=None, learning_rate="3e-3:1e-3")


def curious_with_memory() -> Experiment:
    friends = (
        friend("ObservationHistory", length=3),
        friend("PreviousAction"),
        friend("ICM", hidden=(8,), features=6),
        friend("AdaptiveLearningRate", target=0.002, decide="step"),
    )
    network = layers("leaky_relu")
    return small(
        drift(spaces.Discrete(3, start=1)),
        friends,
        network=network,
        entropy_coefficient="0.02:0",
        value_clip_range=0.5,
    )


def novelty_of_many_choices() -> Experiment:
    friends = (
        friend("ObservationNormalizer"),
        friend("RND", hidden=(8,), features=6, lr=1e-3),
        friend("BootstrapClip", range="fixed", low=-1.0, high=0.5),
        friend("AdvantageNormalizer", per_minibatch=True),
    )
    space = spaces.MultiDiscrete([2, 3])
    return small(
        partial(Identity, space), friends, network=layers("silu"), entropy_coefficient=0.01, gamma=0.9
    )


def correlated_bits() -> Experiment:
    friends = (
        friend("CorrelatedNoise", exponent=1.0),
        friend("KLEarlyStop", target=0.001, decide="epoch"),
    )
    return small(
        partial(Identity, spaces.MultiBinary(2)),
        friends,
        network=layers("tanh", shared=True),
        entropy_coefficient=steps(0.05, (100, 0.005), (200, 0.0005)),
        learning_rate=cosine(5e-3, 1e-3),
    )


def split_with_two_streams() -> Experiment:
    friends = (
        friend("ValueNormalizer", decay=0.9),
        friend("ICM", hidden=(8,), features=6, own_stream=True, gamma=0.9),
        friend(
            "SplitObservations", exteroceptive="1-2", exteroceptive_widths=(6,), proprioceptive_widths=(4,)
        ),
    )
    return small(drift(), friends, network=layers("silu"), value_coefficient=1.0, adam_epsilon=1e-8)


def mirrored_pendulum() -> Experiment:
    friends = (friend("ObservationNormalizer"), friend("SymmetryAugmentation"), friend("RewardNormalizer"))
    environment = EnvironmentSettings(
        id="Pendulum-v1", num_envs=NUM_ENVS, action_repeat=2, max_episode_steps=20
    )
    return small(environment, friends, network=layers("elu"), gae_lambda=0.8)


def mirrored_cart_pole() -> Experiment:
    friends = (friend("SymmetryAugmentation", method="loss", weight=0.5), friend("AdvantageNormalizer"))
    return small("CartPole-v1", friends, network=layers("leaky_relu"), clip_range=0.1)


def numbered_places() -> Experiment:
    friends = (friend("PreviousAction"), friend("RewardScale", factor=0.5))
    return small(
        "CliffWalking-v1", friends, network=layers("relu"), entropy_coefficient=0.01, learning_rate="5e-3:0"
    )


def begun_with_others() -> Experiment:
    network = layers("tanh")
    friends = (
        friend("ObservationNormalizer"),
        friend("BehaviourCloning", dataset=played(CartPoleEnv), epochs=2, minibatch_size=16),
        friend(
            "InitFrom", run=begun(small("CartPole-v1", network=network)), parts="critic", normalizers=False
        ),
        friend("KLAnchor", coefficient=linear(0.5, 0.1)),
    )
    return small("CartPole-v1", friends, network=network)


def taught_by_one_who_sees_more() -> Experiment:
    network, id = layers("tanh", actor_output_gain=1.0), f"{begun.__module__}:Privileged"
    everything = EnvironmentSettings(id=id, num_envs=NUM_ENVS, backend="gymnasium")
    teacher = small(everything, (friend("ObservationNormalizer"),), network=network)
    friends = (
        friend("ObservationNormalizer"),
        friend("Distillation", teacher=begun(teacher), coefficient=linear(1.0, 0.2)),
    )
    less = replace(everything, critic_observations=("goal",))
    return small(less, friends, network=network)


def changing_cart_poles() -> Experiment:
    friends = (
        friend("Curriculum", attributes={"length": "0.5,0.8@128", "force_mag": linear(10.0, 5.0)}),
        friend("DomainRandomisation", scales={"gravity": (0.5, 2.0)}, options={"low": (-0.2, -0.1)}),
    )
    environment = EnvironmentSettings(id="CartPole-v1", num_envs=NUM_ENVS, backend="gymnasium")
    return small(environment, friends, network=layers("tanh"))


def cards() -> Experiment:
    return small("Blackjack-v1", (friend("PopArt"),), network=layers("tanh"), learning_rate=3e-3)


def pictures() -> Experiment:
    friends = (friend("AdvantageNormalizer"), friend("GradientClip"))
    chosen = small(drift(spaces.Discrete(2), image=True), friends, network=NetworkSettings(actor_hidden=()))
    return replace(chosen, ppo=replace(chosen.ppo, epochs=1))


def several_agents() -> Experiment:
    friends = (friend("ObservationNormalizer"), friend("AgentIndex"), friend("AdvantageNormalizer"))
    agents = {"critic": "all", "reward": "team", "truncation": "terminate"}
    return squad(
        *friends, options={"lives": MORTAL}, agents=agents, precision="float64", num_timesteps=NUM_TIMESTEPS
    )


def games_against_itself() -> Experiment:
    friends = (
        friend("SelfPlay", save_steps=40, window=2, opponent="win_rate"),
        friend("AdvantageNormalizer"),
    )
    return nim(*friends, num_timesteps=NUM_TIMESTEPS)


FRIENDLY: tuple[Callable[[], Experiment], ...] = (
    normalised_cart_pole,
    fading_pendulum,
    squashed_state_dependent,
    curious_with_memory,
    novelty_of_many_choices,
    correlated_bits,
    split_with_two_streams,
    mirrored_pendulum,
    mirrored_cart_pole,
    numbered_places,
    begun_with_others,
    taught_by_one_who_sees_more,
    changing_cart_poles,
    cards,
    pictures,
    several_agents,
    games_against_itself,
)
"""Experiments that have, together, every friend and all that launchers leave at its default."""

EXPERIMENTS: dict[str, Callable[[], Experiment]] = {
    **{
        known.name: partial(launched, known.name)
        for known in all_launchers()
        if known.experiment().environment.api == "gymnasium"  # the others need packages of their own
    },
    **{make.__name__: make for make in FRIENDLY},
}


def digest(tensor: Tensor) -> Digest:
    """Numbers that change when any of the tensor's do, or when two of them change places."""
    values = tensor.detach().cpu().numpy().astype(np.float64).reshape(-1)
    # Multiples of an odd number modulo 2**32 are as good as random here, and the same everywhere.
    direction = (np.arange(1, values.size + 1, dtype=np.uint64) * 2654435761) % 2**32 / 2**32 - 0.5
    return {
        "shape": list(tensor.shape),
        "sum": float(values.sum()),
        "squares": float((values * values).sum()),
        "projection": float((values * direction).sum()),
    }


def compute(name: str) -> dict[str, Any]:
    """What an experiment learns in two iterations, and what its environments ran on."""
    torch.set_num_threads(1)
    trainer = build(EXPERIMENTS[name]())
    with closing(trainer.collector.envs) as envs:
        for _ in range(ITERATIONS):
            trainer.train_iteration()
        tensors = {key: digest(tensor) for key, tensor in trainer.agent.tensors().items()}
        return {"backend": envs.backend, "tensors": tensors}


def recorded() -> dict[str, Any]:
    """The digests in the file, by experiment."""
    return dict(json.loads(FILE.read_bytes())) if FILE.exists() else {}


def difference(found: Digest, expected: Digest) -> float:
    """Of two digests, in units of the tensor's norm; infinite where shapes differ or numbers are missing."""
    if found["shape"] != expected["shape"]:
        return math.inf
    norm = math.sqrt(expected["squares"])
    scales = {"sum": norm, "squares": norm**2, "projection": norm}
    return max(_relative(found[key], expected[key], scale) for key, scale in scales.items())


def _relative(found: float, expected: float, scale: float) -> float:
    if found == expected or (math.isnan(found) and math.isnan(expected)):
        return 0.0
    ratio = abs(found - expected) / max(abs(expected), scale, sys.float_info.min)
    return math.inf if math.isnan(ratio) else ratio


def differences(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, float]:
    """Of an experiment's tensors by name; infinite for one that only one side has."""
    ours, theirs = found["tensors"], expected["tensors"]
    return {
        name: difference(ours[name], theirs[name]) if name in ours and name in theirs else math.inf
        for name in [*theirs, *(name for name in ours if name not in theirs)]
    }


def written(digests: dict[str, Any]) -> str:
    """As JSON, a line for each tensor."""
    experiments = []
    for name, each in digests.items():
        rows = ",\n".join(f"   {json.dumps(key)}: {json.dumps(row)}" for key, row in each["tensors"].items())
        backend = json.dumps(each["backend"])
        experiments.append(
            f' {json.dumps(name)}: {{\n  "backend": {backend},\n  "tensors": {{\n{rows}\n  }}\n }}'
        )
    return "{\n" + ",\n".join(experiments) + "\n}\n"


def describe(found: dict[str, Any], expected: dict[str, Any] | None) -> str:
    """How an experiment's digests compare with the recorded ones."""
    if expected is None:
        return "not recorded"
    if json.dumps(found) == json.dumps(expected):
        return "equal to the bit"
    by_name = differences(found, expected)
    worst = max(by_name, key=lambda name: by_name[name])
    moved = "" if found["backend"] == expected["backend"] else f", on {found['backend']} now"
    return f"differs by {by_name[worst]:.1e} at most, in {worst}{moved}"


def main() -> int:
    """Record or compare; the status is 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="record digests anew")
    what.add_argument("--exact", action="store_true", help="compare with those recorded, to the bit")
    parser.add_argument("names", nargs="*", metavar="EXPERIMENT", help="which of them; none: all")
    options = parser.parse_args()
    if unknown := set(options.names) - set(EXPERIMENTS):
        parser.error(f"no experiment {', '.join(sorted(unknown))}; there are {', '.join(EXPERIMENTS)}")
    before = recorded()
    found = {}
    for name in options.names or EXPERIMENTS:
        found[name] = compute(name)
        print(f"{name:26} {describe(found[name], before.get(name))}", flush=True)
    if options.write:
        kept = {name: each for name in EXPERIMENTS if (each := found.get(name, before.get(name)))}
        FILE.write_text(written(kept))
        return 0
    expected = {name: before.get(name) for name in found} if options.names else before
    return int(json.dumps(found) != json.dumps(expected))


if __name__ == "__main__":
    sys.exit(main())
