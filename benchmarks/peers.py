"""Stable-Baselines3 and SBX at the settings of one of our runs, each in a virtual environment of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from benchmarks.jobs import HERE, answer, variables
from benchmarks.runs import Run
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.schedules import Schedule

Library = Literal["sb3", "sbx"]
NORMALIZED_REWARDS = {"RewardNormalizer", "RewardScale", "ValueNormalizer", "PopArt"}
"""Friends that bring rewards or values to a scale; the peers' way to do so is VecNormalize."""


def same_spec(run: Run) -> dict[str, Any]:
    """The settings of one of our plain runs in Stable-Baselines3's terms, as ``peer_sb3.py`` takes them."""
    experiment, friends = run.experiment, {spec.name for spec in run.experiment.friends}
    settings, ppo, network = experiment.environment, experiment.ppo, experiment.network
    if settings.atari is not None:
        raise UsageError(f"{experiment.name}: Stable-Baselines3 has another network for images.")
    names = {"n_epochs": "epochs", "batch_size": "minibatch_size", "ent_coef": "entropy_coefficient"}
    names |= {"vf_coef": "value_coefficient", "clip_range_vf": "value_clip_range"}
    names |= {name: name for name in ("learning_rate", "clip_range", "gamma", "gae_lambda", "max_grad_norm")}
    values = {theirs: getattr(ppo, ours) for theirs, ours in names.items()}
    return {
        "env_id": settings.id,
        "env_arguments": dict(settings.arguments),
        "n_timesteps": experiment.num_timesteps,
        "n_envs": settings.num_envs,
        "norm_obs": "ObservationNormalizer" in friends,
        "norm_reward": "RewardNormalizer" in friends,
        "pi": list(network.actor_hidden),
        "vf": list(network.critic_hidden),
        "activation": network.activation,
        "log_std_init": network.log_std_init,
        "ppo": {name: getattr(value, "start", value) for name, value in values.items()}
        | {"n_steps": round(ppo.rollout_timesteps / settings.num_envs)},
        "seed": run.seed,
        "threads": 1,
    }


def best_spec(run: Run, library: Library, until: float, limit: float) -> dict[str, Any]:
    """A launcher's settings for a peer, on the engine that we have, with what the peer has for our friends.

    Schedules of learning rate and clip range, normalised observations and rewards, and, with SBX, a learning
    rate that adapts to the KL divergence. Other friends have no counterpart.

    Args:
        run: Ours.
        library: The peer.
        until: Mean return of 100 training episodes at which to stop.
        limit: Seconds after which to give up.
    """
    spec = same_spec(run)
    friends = {friend.name: dict(friend.arguments) for friend in run.experiment.friends}
    ppo = spec["ppo"]
    ppo["learning_rate"] = moving(run.experiment.ppo.learning_rate)
    if library == "sbx" and "AdaptiveLearningRate" in friends:
        target = friends["AdaptiveLearningRate"].get("target", 0.01)
        ppo["target_kl"] = target["start"] if isinstance(target, dict) else getattr(target, "start", target)
    if library == "sbx":
        ppo["clip_range_vf"] = None  # it has no clipping of values
        if spec["pi"] != spec["vf"]:
            raise UsageError(f"{run.experiment.name}: SBX has networks of the same widths only.")
    return spec | {
        "norm_reward": bool(NORMALIZED_REWARDS & set(friends)),
        "library": library,
        "engine": "envpool",
        "until": until,
        "limit": limit,
    }


def require(python: Path) -> None:
    """Raises UsageError: There is no such Python."""
    if not python.exists():
        raise UsageError(f"{python} is missing: make it as docs/environments.md says, or give --peer_python.")


def measure_peer(
    python: Path, spec: dict[str, Any], limit: float = 3600.0, script: str = "peer_sb3.py"
) -> dict[str, Any]:
    """Train a peer on one core; returns ``steps_per_second`` and ``curve`` (timesteps, seconds, score).

    Raises:
        MeasurementError: It failed; with its last line of output.
        UsageError: There is no such Python.
    """
    require(python)
    name, command = f"{script}, {spec['env_id']} seed {spec['seed']}", [str(python.absolute())]
    how = {"pinned": True, "variables": variables(1)}
    result: dict[str, Any] = answer(name, [*command, str(HERE / script)], spec, limit, **how)
    return result


def moving(schedule: Schedule) -> float | list[float]:
    """A schedule as the peer's script takes it: a number, or both ends of a line."""
    return schedule.start if schedule.end is None else [schedule.start, schedule.end]
