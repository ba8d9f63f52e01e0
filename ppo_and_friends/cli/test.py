"""Testing a saved policy, as the command line asks for it."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

from ppo_and_friends.cli.options import BEST, Choice
from ppo_and_friends.cli.request import Request
from ppo_and_friends.distributed.agreement import on_main
from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.randomness import Purpose, Randomness
from ppo_and_friends.errors import EnvironmentFault, UsageError
from ppo_and_friends.policy.find import find_policy, restored_policy
from ppo_and_friends.policy.trained_policy import TrainedPolicy
from ppo_and_friends.runs.checkpoint import MANIFEST, Checkpoint
from ppo_and_friends.runs.checkpoint_contents import check_identity, identity, settings_identity
from ppo_and_friends.runs.run_folder import RunFolder, policies_in
from ppo_and_friends.runs.saved_experiment import load_experiment


def load_trained(request: Request, trust: bool = False) -> tuple[TrainedPolicy, Checkpoint]:
    """A saved policy with the settings it was trained with, and its checkpoint.

    Args:
        request: Whose folder to look in. The settings are the saved ones, with its changes.
        trust: Whether saved code may be run, for an experiment that isn't plain data.

    Raises:
        UsageError: Nothing is saved there; says how to train one.
        IncompatibleState: What is saved is of another environment or network.
        CheckpointError: What is saved is damaged.
    """
    place = request.trained or request.folder
    try:
        checkpoint, home = find_policy(place)
    except UsageError:
        how = "--eval_every N keeps one." if place.name == BEST else f"Train one with: {request.command()}"
        raise UsageError(f"No trained policy in {place}. {how}") from None
    experiment = request.change(load_experiment(home, trust))
    # First, since it may be that these settings' environment can't even be made.
    check_identity(checkpoint, settings_identity(experiment))
    from ppo_and_friends.vector.codec import policy_space
    from ppo_and_friends.vector.parallel import spaces_and_agents
    from ppo_and_friends.vector.spaces import encoded_space

    declared, action_space, agents = spaces_and_agents(experiment.environment)
    observation_space = encoded_space(policy_space(declared, experiment.environment.critic_observations))
    check_identity(checkpoint, identity(experiment, observation_space, action_space, agents=agents))
    named = (place / MANIFEST).is_file()
    checkpoint, policy = restored_policy(experiment, checkpoint, older=not named)
    return policy, checkpoint


def test(
    request: Request,
    communicator: Communicator,
    *,
    episodes: int,
    deterministic: bool = True,
    opponent: str | None = None,
    window: bool = False,
    video: Path | None = None,
    video_episode: Choice = "best",
    video_steps: int | None = None,
    trust: bool = False,
) -> int:
    """Run whole episodes of the saved policy on the canonical environment; print and write their returns.

    Args:
        request: What to test, and where it is kept.
        communicator: Rank 0 tests, the others wait.
        episodes: How many.
        deterministic: Take the most probable actions; False: sample them.
        opponent: ``random``, or where the policy is kept that plays all agents but one; None: there is none.
        window: Show it.
        video: Where to record; None: nowhere.
        video_episode: Which episode, by its return, or all of them.
        video_steps: How many of its steps; None: two minutes at most.
        trust: Whether saved code may be run.

    Returns:
        0.

    Raises:
        PPOError: Nothing is saved, it doesn't fit, no display, an environment that fails.
    """
    on_main(
        communicator,
        lambda: _test(
            request, episodes, deterministic, opponent, window, video, video_episode, video_steps, trust
        ),
    )
    return 0


def _test(
    request: Request,
    episodes: int,
    deterministic: bool,
    opponent: str | None,
    window: bool,
    video: Path | None,
    video_episode: Choice,
    video_steps: int | None,
    trust: bool,
) -> None:
    from ppo_and_friends.api.evaluation import evaluate
    from ppo_and_friends.evaluation.rendering import prepare_offscreen, require_display
    from ppo_and_friends.policy.load import load_policy
    from ppo_and_friends.reporting.tables import print_evaluation
    from ppo_and_friends.reporting.waiting import Waiting

    if window:
        require_display()
    elif video is not None:
        prepare_offscreen(request.experiment.environment)
    place = request.trained or request.folder
    if policies_in(place):
        policy = load_policy(place, trust=trust)
    else:
        policy, checkpoint = load_trained(request, trust)
        for note in checkpoint.notes:
            print(note, file=sys.stderr)
    against: Any = opponent
    if opponent not in (None, "random"):
        against = load_policy(str(opponent), trust=trust)
    folder = RunFolder(request.folder)
    try:
        with Waiting() as waiting:
            evaluation = evaluate(
                policy,
                episodes,
                seed=Randomness(request.experiment.random_seed).integer(Purpose.EVALUATION),
                opponent=against,
                deterministic=deterministic,
                render=window,
                video=video,
                video_episode=video_episode,
                video_steps=video_steps,
                on_progress=waiting,
            )
    except EnvironmentFault as error:
        folder.keep_traceback(error)
        raise
    print_evaluation(evaluation)
    try:
        evaluation.write(folder.test_scores)
    except OSError as error:
        warnings.warn(f"{folder.test_scores} can't be written: {error}", stacklevel=1)
    else:
        print(f"Scores written to {folder.test_scores}")
    if video is not None:
        print(f"Video written to {video}")
