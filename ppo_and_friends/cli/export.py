"""The command that exports a saved policy."""

from __future__ import annotations

from ppo_and_friends.cli.request import Request
from ppo_and_friends.distributed.communicator import Communicator


def export(request: Request, communicator: Communicator, *, trust: bool = False) -> int:
    """Write the saved policy as ``policy.onnx`` into the run's folder. A collective.

    Args:
        request: Whose policy.
        communicator: Rank 0 writes.
        trust: Whether saved code may be run, for an experiment that isn't plain data.

    Returns:
        0.

    Raises:
        UsageError: No policy is saved, or it can't be exported.
    """
    from ppo_and_friends.distributed.agreement import on_main

    def write() -> None:
        from ppo_and_friends.policy.export import export_onnx
        from ppo_and_friends.policy.find import load_single_policy

        policy = load_single_policy(request.trained or request.folder, trust=trust)
        print(f"Exporting the policy of {policy.experiment.name} to ONNX ...", flush=True)
        print(f"Written: {export_onnx(policy, request.folder / 'policy.onnx')}")

    on_main(communicator, write)
    return 0
