"""The summary of a training."""

from __future__ import annotations

import math

from ppo_and_friends.common.formatting import format_value
from ppo_and_friends.friends.evaluator import Evaluator
from ppo_and_friends.friends.group import friends_of
from ppo_and_friends.runs.checkpoint import Checkpoint
from ppo_and_friends.runs.session import Session
from ppo_and_friends.settings.experiment import Experiment


def summary(session: Session) -> str:
    """A short summary of the training so far. Called on all ranks, since friends are asked."""
    trainer = session.trainer
    where = [] if session.folder is None else [f"Saved in {session.folder.path}."]
    if not session.finished():
        return " ".join([f"Stopped at {trainer.timesteps:,} timesteps.", *where])
    done = (
        f"Trained {trainer.experiment.name} for {trainer.timesteps:,} timesteps in {session.seconds:.1f} s."
    )
    return "\n".join([*_ended_early(session), done, *_scores(session), *where])


def already_trained(experiment: Experiment, checkpoint: Checkpoint) -> str:
    """The message for a run that already has the requested timesteps."""
    return (
        f"{experiment.name} was already trained for {checkpoint.timesteps:,} timesteps "
        f"({experiment.num_timesteps:,} requested)."
    )


def _ended_early(session: Session) -> list[str]:
    """Which friends ended the training before its timesteps were reached."""
    trainer = session.trainer
    if trainer.timesteps >= trainer.experiment.num_timesteps:
        return []
    reasons = [friend.why_finished() for friend in friends_of(trainer.agent) if friend.finished()]
    planned = f"before its {trainer.experiment.num_timesteps:,} timesteps"
    return [f"Training ended {planned}: {', '.join(reasons)}."] if reasons else []


def _scores(session: Session) -> list[str]:
    """The last evaluation's score first: training episodes explore, and stem from several policies."""
    trainer, said = session.trainer, []
    for friend in friends_of(trainer.agent):
        if isinstance(friend, Evaluator) and not math.isnan(score := friend.score.item()):
            best = friend.best.item()
            more = f" (best {format_value(best)})" if best > score else ""
            said.append(f"last evaluation {format_value(score)}{more}")
    recent = trainer.episodes.recent
    if recent:
        said.append(f"last {len(recent)} training episodes {format_value(sum(recent) / len(recent))}")
    return [f"Mean scores: {', '.join(said)}."] if said else []
