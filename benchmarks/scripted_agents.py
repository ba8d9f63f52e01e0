"""What players that were told what to do reach in the particle environments, beside trained policies.

``python benchmarks/scripted_agents.py [EPISODES]`` prints mean returns over agents, with standard errors.
In simple_spread each agent goes to a landmark of its own, so that the ways are shortest together; in
simple_speaker_listener the listener knows the goal. All move greedily, and no better than this.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SEED = 1_000_000_007
"""As trained policies are evaluated."""

PUSHES = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]) * 0.5
"""By which an action changes the speed, of which each step leaves three quarters; a step takes 0.1."""


def towards(way: Array, speed: Array, ahead: int = 5) -> int:
    """The action after which an agent that pushes no more would be nearest, on average over some steps."""
    distances = []
    for push in PUSHES:
        place, moving = np.zeros(2), speed * 0.75 + push
        missing = 0.0
        for _ in range(ahead):
            place = place + 0.1 * moving
            missing += float(np.linalg.norm(way - place))
            moving = moving * 0.75
        distances.append(missing)
    return int(np.argmin(distances))


def spread(env: Any) -> Callable[[dict[str, Array]], dict[str, int]]:
    """The landmarks are shared out where an episode begins."""
    chosen: list[tuple[int, ...]] = []

    def act(observations: dict[str, Array]) -> dict[str, int]:
        ways = [seen[4:10].reshape(3, 2) for seen in observations.values()]
        far = np.linalg.norm(ways, axis=-1)
        if not chosen:
            orders = permutations(range(3))
            chosen.append(min(orders, key=lambda order: sum(far[k, one] for k, one in enumerate(order))))
        seen_by = zip(observations.items(), ways, chosen[0], strict=True)
        return {agent: towards(way[own], seen[:2]) for (agent, seen), way, own in seen_by}

    return act


def listener(env: Any) -> Callable[[dict[str, Array]], dict[str, int]]:
    """The listener is told which landmark is meant."""
    world = env.unwrapped.world
    goal = world.landmarks.index(world.agents[0].goal_b)

    def act(observations: dict[str, Array]) -> dict[str, int]:
        seen = observations["listener_0"]
        return {"speaker_0": 0, "listener_0": towards(seen[2:8].reshape(3, 2)[goal], seen[:2])}

    return act


def score(env: Any, player: Callable[[Any], Any], episodes: int) -> Array:
    """Each episode's return, the mean over agents."""
    returns = np.zeros(episodes)
    for episode in range(episodes):
        observations, _ = env.reset(seed=SEED + episode)
        act = player(env)
        while env.agents:
            observations, rewards, *_ = env.step(act(observations))
            returns[episode] += np.mean(list(rewards.values()))
    return returns


def main() -> None:
    """Print both."""
    from mpe2 import simple_speaker_listener_v4, simple_spread_v3  # an extra

    episodes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    for module, player in ((simple_spread_v3, spread), (simple_speaker_listener_v4, listener)):
        env = module.parallel_env()
        found = score(env, player, episodes)
        error = found.std() / np.sqrt(episodes)
        print(
            f"{module.__name__.rpartition('.')[2]}: {found.mean():.2f} +- {error:.2f} of {episodes} episodes"
        )


if __name__ == "__main__":
    main()
