"""``load_policy``: a run's trained policy, or its policies if its agents have different ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from ppo_and_friends.policy.find import load_single_policy
from ppo_and_friends.policy.trained_policies import TrainedPolicies
from ppo_and_friends.policy.trained_policy import TrainedPolicy
from ppo_and_friends.runs.run_folder import policies_in
from ppo_and_friends.runs.saved_experiment import load_experiment


def load_policy(
    path: str | Path, *, trust: bool = False, device: Literal["auto", "cpu", "cuda"] = "cpu"
) -> TrainedPolicy:
    """Load a trained policy.

    Args:
        path: A run's folder (``saved_states/Humanoid``), of which the newest intact checkpoint is loaded;
            or a run's best policy (``saved_states/Humanoid/best``); or a single checkpoint's folder; or a
            packed policy (``Humanoid.zip``, see ``--pack``).
        trust: Whether code saved with the experiment may be executed; required if the experiment isn't
            plain data.
        device: Device of the network.

    Returns:
        The policy; ``policy(observation)`` returns an action. Of a run whose agents have different ones, all
        of them (`TrainedPolicies`): ``load_policy(folder)["adversary"]`` is one.

    Raises:
        UsageError: No policy is saved there, or its experiment contains code and ``trust`` is False.
        CheckpointError: The saved files are damaged.
    """
    folders = policies_in(Path(path))
    if not folders:
        return load_single_policy(path, trust=trust, device=device)
    policies = {
        name: load_single_policy(folder, trust=trust, device=device) for name, folder in folders.items()
    }
    home = Path(path) if Path(path).is_dir() else Path(path).parent  # of the best policies
    experiment = replace(load_experiment(home, trust), device=device)
    # Most runs have one, and whoever loads several knows it.
    return cast(TrainedPolicy, TrainedPolicies(experiment, policies))
