"""The numbers that every run reports, by the names they have in ``progress.csv``.

Friends describe theirs themselves (``Friend.reported``).
"""

from __future__ import annotations

from types import MappingProxyType

from ppo_and_friends.common.metric import Metric

PROGRESS = (
    Metric("iteration", "Number of the iteration, from 1; a resumed run continues counting"),
    Metric("timesteps", "Environment steps so far, without automatic resets, over all ranks", "timesteps"),
    Metric("seconds", "Time of all iterations so far, evaluations included, over all resumes", "s"),
    Metric(
        "steps_per_second",
        "Timesteps of the iteration divided by its time without evaluations",
        "timesteps/s",
        tag="time/steps_per_second",
    ),
    Metric("time_environment", "Time in the environments' steps, on rank 0", "s"),
    Metric("time_inference", "Time in the policy and the critic while collecting, on rank 0", "s"),
    Metric("time_update", "Time in the update without communication, on rank 0", "s"),
    Metric(
        "time_communication",
        "Time in collectives, friends' among them, waiting for other ranks included, on rank 0",
        "s",
    ),
    Metric("time_evaluation", "Time in friends' evaluations and videos, on rank 0", "s"),
)
"""How far a run is, and where its time goes (``runs/session.py``)."""

EPISODES = (
    Metric("episodes", "Episodes that ended in the iteration, over all ranks", tag="episode/count"),
    Metric("episode_return_mean", "Mean return of these episodes; blank if none ended", "reward"),
    Metric("episode_return_std", "Standard deviation of their returns", "reward"),
    Metric("episode_return_min", "Least of their returns", "reward"),
    Metric("episode_return_max", "Largest of their returns", "reward"),
    Metric("episode_length_mean", "Mean length of these episodes", "timesteps"),
    Metric(
        "episode_return_mean_100",
        "Mean return of the last 100 episodes, or of all where there were fewer",
        "reward",
    ),
    Metric(
        "episodes_in_mean", "Episodes in `episode_return_mean_100`, at most 100", tag="episode/in_mean_100"
    ),
)
"""Episodes of the training (``ppo/episodes.py``): true returns, whatever friends do to rewards."""

LEARNING = (
    Metric("policy_loss", "Clipped surrogate loss, mean over the update", tag="loss/policy"),
    Metric(
        "value_loss", "Squared error of the critic in its own units, mean over the update", tag="loss/value"
    ),
    Metric("entropy", "Entropy of the policy, mean over the update", "nats", tag="policy/entropy"),
    Metric(
        "kl",
        "KL divergence of the new from the old policy, mean over the last epoch",
        "nats",
        tag="policy/kl",
    ),
    Metric(
        "clip_fraction",
        "Share of the probability ratios outside the clip range, mean over the last epoch",
        tag="policy/clip_fraction",
    ),
    Metric(
        "explained_variance",
        "Share of the variance of the lambda-returns that the critic predicted before the update, at most 1",
        tag="loss/explained_variance",
    ),
    Metric("learning_rate", "Adam's step size at the end of the update", tag="schedule/learning_rate"),
    Metric("clip_range", "Clip range of the probability ratio in the update", tag="schedule/clip_range"),
    Metric(
        "entropy_coefficient",
        "Weight of the entropy bonus in the update",
        tag="schedule/entropy_coefficient",
    ),
    Metric(
        "gradient_norm",
        "Norm of the gradient over all ranks before it is clipped, mean over the update",
        tag="loss/gradient_norm",
    ),
    Metric("epochs", "Epochs of the update, one that was ended early included", tag="policy/epochs"),
    Metric(
        "action_std",
        "Mean standard deviation of a Gaussian policy; only for continuous actions",
        "half action ranges",
        tag="policy/action_std",
    ),
)
"""The update (``ppo/trainer.py``, ``ppo/losses.py``)."""

EVALUATED = "Evaluator/score"
"""The friend Evaluator's mean return, known in iterations with an evaluation."""

METRICS = MappingProxyType({metric.name: metric for metric in (*PROGRESS, *EPISODES, *LEARNING)})
"""All of them, by name."""

SAMPLES = (
    Metric("observations/all", "Components of observations, as the network gets them"),
    Metric(
        "actions/all",
        "Actions in the environment's units; with 2 to 8 dimensions `actions/0`, `actions/1`, ...",
    ),
    Metric("advantages/all", "Advantages, as the update uses them"),
    Metric(
        "rewards/extrinsic", "Rewards that are learned from; `rewards/<stream>` for further reward streams"
    ),
    Metric("values/extrinsic", "The critic's predictions; `values/<stream>` for further reward streams"),
)
"""Histograms in TensorBoard, taken now and then from rank 0's rollout (``reporting/samples.py``)."""

FINAL = (
    Metric("final/episode_return_mean_100", "The last `episode_return_mean_100`", "reward"),
    Metric(
        "final/episode_return_best",
        "The largest score of an evaluation, if there is an Evaluator, else the largest "
        "`episode_return_mean_100` over a full 100 episodes",
        "reward",
    ),
    Metric("final/evaluation", "The Evaluator's last mean return, if there is an Evaluator", "reward"),
)
"""Written once, when training ends: what the HParams tab compares runs by."""
