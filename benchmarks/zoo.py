"""Settings for Stable-Baselines3: ours, translated, and those of its zoo.

The zoo's are those of DLR-RM/rl-baselines3-zoo, hyperparams/ppo.yml (MuJoCo's are listed there for v3).
A specification is plain data that ``peer_sb3.py`` understands.
"""

from __future__ import annotations

from typing import Any

from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import Experiment
from ppo_and_friends.settings.schedules import Schedule

Spec = dict[str, Any]

RELU_256 = {
    "pi": [256, 256],
    "vf": [256, 256],
    "activation": "relu",
    "log_std_init": -2.0,
    "ortho_init": False,
}

ZOO: dict[str, Spec] = {
    "CartPole": {
        "n_timesteps": 100_000,
        "n_envs": 8,
        "ppo": {
            "n_steps": 32,
            "batch_size": 256,
            "n_epochs": 20,
            "gamma": 0.98,
            "gae_lambda": 0.8,
            "learning_rate": [1e-3, 0.0],
            "clip_range": [0.2, 0.0],
        },
    },
    "LunarLander": {
        "n_timesteps": 1_000_000,
        "n_envs": 16,
        "ppo": {
            "n_steps": 1024,
            "batch_size": 64,
            "n_epochs": 4,
            "gamma": 0.999,
            "gae_lambda": 0.98,
            "ent_coef": 0.01,
        },
    },
    "BipedalWalker": {
        "n_timesteps": 5_000_000,
        "n_envs": 32,
        "norm_obs": True,
        "norm_reward": True,
        "ppo": {
            "n_steps": 2048,
            "batch_size": 64,
            "n_epochs": 10,
            "gamma": 0.999,
            "gae_lambda": 0.95,
            "clip_range": 0.18,
        },
    },
    "Hopper": {
        "n_timesteps": 1_000_000,
        "norm_obs": True,
        "norm_reward": True,
        "net": RELU_256,
        "ppo": {
            "n_steps": 512,
            "batch_size": 32,
            "n_epochs": 5,
            "gamma": 0.999,
            "gae_lambda": 0.99,
            "learning_rate": 9.80828e-05,
            "ent_coef": 0.00229519,
            "max_grad_norm": 0.7,
            "vf_coef": 0.835671,
        },
    },
    "HalfCheetah": {
        "n_timesteps": 1_000_000,
        "norm_obs": True,
        "norm_reward": True,
        "net": RELU_256,
        "ppo": {
            "n_steps": 512,
            "batch_size": 64,
            "n_epochs": 20,
            "gamma": 0.98,
            "gae_lambda": 0.92,
            "learning_rate": 2.0633e-05,
            "clip_range": 0.1,
            "ent_coef": 0.000401762,
            "max_grad_norm": 0.8,
            "vf_coef": 0.58096,
        },
    },
    "Ant": {"n_timesteps": 1_000_000, "norm_obs": True, "norm_reward": True},
    "Humanoid": {
        "n_timesteps": 10_000_000,
        "norm_obs": True,
        "norm_reward": True,
        "net": RELU_256,
        "ppo": {
            "n_steps": 512,
            "batch_size": 256,
            "n_epochs": 5,
            "gamma": 0.95,
            "gae_lambda": 0.9,
            "learning_rate": 3.56987e-05,
            "clip_range": 0.3,
            "ent_coef": 0.00238306,
            "max_grad_norm": 2.0,
            "vf_coef": 0.431892,
        },
    },
    "BreakoutPixels": {
        "n_timesteps": 10_000_000,
        "n_envs": 8,
        "ppo": {
            "n_steps": 128,
            "batch_size": 256,
            "n_epochs": 4,
            "learning_rate": [2.5e-4, 0.0],
            "clip_range": [0.1, 0.0],
            "vf_coef": 0.5,
            "ent_coef": 0.01,
        },
    },
}


def zoo_spec(experiment: Experiment) -> Spec:
    """The zoo's settings for a launcher's environment.

    Raises:
        UsageError: There are none here.
    """
    if experiment.name not in ZOO:
        raise UsageError(f"No settings of the zoo for {experiment.name}; there are for {', '.join(ZOO)}.")
    return _environment(experiment) | {"n_envs": 1} | ZOO[experiment.name]


def same_spec(experiment: Experiment) -> Spec:
    """Our settings in Stable-Baselines3's terms.

    What it has no name for is left out: friends other than the normalisers, and learning rates of the
    network's parts. Its advantages are normalised in each minibatch, ours as the launcher says.
    """
    ppo, network = experiment.ppo, experiment.network
    friends = {spec.name for spec in experiment.friends}
    envs = experiment.environment.num_envs
    return _environment(experiment) | {
        "n_timesteps": experiment.num_timesteps,
        "n_envs": envs,
        "norm_obs": "ObservationNormalizer" in friends,
        "norm_reward": "RewardNormalizer" in friends,
        "net": {
            "pi": list(network.actor_hidden),
            "vf": list(network.critic_hidden),
            "activation": network.activation,
            "log_std_init": network.log_std_init,
            "ortho_init": True,
        },
        "ppo": {
            "n_steps": max(1, round(ppo.rollout_timesteps / envs)),
            "batch_size": ppo.minibatch_size,
            "n_epochs": ppo.epochs,
            "gamma": ppo.gamma,
            "gae_lambda": ppo.gae_lambda,
            "learning_rate": _schedule(ppo.learning_rate),
            "clip_range": _schedule(ppo.clip_range),
            "clip_range_vf": ppo.value_clip_range,
            "ent_coef": _start(ppo.entropy_coefficient),
            "vf_coef": ppo.value_coefficient,
            "max_grad_norm": ppo.max_grad_norm or 1e9,
            "normalize_advantage": "AdvantageNormalizer" in friends,
        },
    }


def _environment(experiment: Experiment) -> Spec:
    """Which environment, in Stable-Baselines3's way of making it."""
    settings = experiment.environment
    if settings.atari is None:
        return {"env_id": settings.id, "env_arguments": dict(settings.arguments)}
    if settings.atari.observation != "pixels":
        raise UsageError(f"{experiment.name}: peers play Atari from pixels only.")
    return {"env_id": settings.id, "atari": True}


def _schedule(value: Schedule) -> list[float] | float:
    return value.start if value.end is None else [value.start, value.end]


def _start(value: Schedule) -> float:
    """Entropy weights are constants there."""
    return value.start
