"""What other libraries and earlier versions call the settings: to answer with the right name."""

from __future__ import annotations

from collections.abc import Mapping

from ppo_and_friends.settings.migration import RENAMED

PEERS: Mapping[str, str] = {
    # Stable-Baselines3
    "n_steps": "ppo.rollout_timesteps",
    "batch_size": "ppo.minibatch_size",
    "n_epochs": "ppo.epochs",
    "ent_coef": "ppo.entropy_coefficient",
    "vf_coef": "ppo.value_coefficient",
    "clip_range_vf": "ppo.value_clip_range",
    "normalize_advantage": "friends.AdvantageNormalizer",
    "target_kl": "friends.KLEarlyStop.target",
    "use_sde": "friends.StateDependentExploration",
    "sde_sample_freq": "friends.StateDependentExploration.resample_every",
    "net_arch": "network.actor_hidden",
    "activation_fn": "network.activation",
    "squash_output": "network.squash",
    "share_features_extractor": "network.shared",
    "total_timesteps": "num_timesteps",
    "n_envs": "environment.num_envs",
    "env_kwargs": "environment.arguments",
    "env_wrapper": "environment.wrappers",
    "seed": "random_seed",
    # CleanRL
    "num_steps": "ppo.rollout_timesteps",
    "num_minibatches": "ppo.minibatch_size",
    "update_epochs": "ppo.epochs",
    "clip_coef": "ppo.clip_range",
    "clip_vloss": "ppo.value_clip_range",
    "norm_adv": "friends.AdvantageNormalizer",
    "anneal_lr": "ppo.learning_rate",
    "env_id": "environment.id",
    # RLlib, rl_games, rsl_rl and papers
    "lr": "ppo.learning_rate",
    "lambda": "ppo.gae_lambda",
    "lam": "ppo.gae_lambda",
    "tau": "ppo.gae_lambda",
    "entropy_coef": "ppo.entropy_coefficient",
    "entropy_coeff": "ppo.entropy_coefficient",
    "value_loss_coef": "ppo.value_coefficient",
    "vf_loss_coeff": "ppo.value_coefficient",
    "critic_coef": "ppo.value_coefficient",
    "clip_param": "ppo.clip_range",
    "e_clip": "ppo.clip_range",
    "epsilon": "ppo.clip_range",
    "vf_clip_param": "ppo.value_clip_range",
    "grad_norm": "ppo.max_grad_norm",
    "grad_clip": "ppo.max_grad_norm",
    "mini_epochs": "ppo.epochs",
    "num_sgd_iter": "ppo.epochs",
    "num_learning_epochs": "ppo.epochs",
    "sgd_minibatch_size": "ppo.minibatch_size",
    "train_batch_size": "ppo.rollout_timesteps",
    "horizon_length": "ppo.rollout_timesteps",
    "init_noise_std": "network.log_std_init",
    "num_learning_iterations": "num_timesteps",
    # Spinning Up and Brax
    "clip_ratio": "ppo.clip_range",
    "pi_lr": "ppo.learning_rate",
    "hidden_sizes": "network.actor_hidden",
    "steps_per_epoch": "ppo.rollout_timesteps",
    "entropy_cost": "ppo.entropy_coefficient",
    "discounting": "ppo.gamma",
    "unroll_length": "ppo.rollout_timesteps",
    "clipping_epsilon": "ppo.clip_range",
    "num_updates_per_batch": "ppo.epochs",
    "actor_hidden_dims": "network.actor_hidden",
    "critic_hidden_dims": "network.critic_hidden",
}
"""A peer's name to the setting that it means here, or to the friend."""

_PER_ENVIRONMENT = "over all environments together, not for each"

NOTES: Mapping[str, str] = {
    "n_steps": _PER_ENVIRONMENT,
    "num_steps": _PER_ENVIRONMENT,
    "horizon_length": _PER_ENVIRONMENT,
    "unroll_length": _PER_ENVIRONMENT,
    "num_minibatches": "the rows of one, not their number",
    "init_noise_std": "the logarithm",
    "anneal_lr": "write a schedule, such as 3e-4:0",
    "num_learning_iterations": "timesteps over all environments",
    "target_score": "which only informs; the option --target_score ends the training",
}
"""A peer's or an earlier name to what is different here, where it isn't the name alone."""


def todays_name(name: str) -> str | None:
    """The setting, or the friend, that somebody means who writes a peer's or an earlier name.

    Args:
        name: As given to ``--set``: ``ent_coef``, ``ppo.ent_coef``, ``ppo.trace_decay``.

    Returns:
        The dotted name it has now; None where nobody calls anything so.
    """
    section, _, last = name.rpartition(".")
    for place, names in RENAMED.items():
        if last in names and section in ("", place):
            return f"{place}.{names[last]}" if place else names[last]
    return PEERS.get(last)


def note_on(name: str) -> str:
    """What is different here about the setting that somebody means, in brackets; mostly empty."""
    note = NOTES.get(name.rpartition(".")[2])
    return f" ({note})" if note else ""
