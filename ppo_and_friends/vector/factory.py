"""The way in: settings to a checked VectorEnv on the right backend."""

from __future__ import annotations

from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import EnvironmentSettings
from ppo_and_friends.vector import ale, envpool
from ppo_and_friends.vector.checks import CheckedVectorEnv
from ppo_and_friends.vector.gymnasium import AsyncGymnasiumVectorEnv, GymnasiumVectorEnv
from ppo_and_friends.vector.protocol import VectorEnv


def make_vector_env(settings: EnvironmentSettings, layout: Layout, threads: int = 1) -> CheckedVectorEnv:
    """Make this rank's environments, to train on.

    Args:
        settings: Which environment and backend; its ``num_envs`` is not used, ``layout`` is.
        layout: Which environments of the run are this rank's.
        threads: Threads this rank may use to step them.

    Returns:
        A `VectorEnv` with checks. Its ``backend`` is for the record, its ``notes`` are for the user.

    Raises:
        UsageError: The environment can't be made, its spaces aren't supported, or the asked backend
            can't run it as it is.
    """
    notes: list[str] = []
    backend: str = settings.backend
    if backend == "auto":
        backend, note = _choose(settings)
        if note:
            notes.append(note)
    return CheckedVectorEnv(_make(backend, settings, layout, threads), layout.first, notes)


def _choose(settings: EnvironmentSettings) -> tuple[str, str | None]:
    """The fastest backend known to agree with Gymnasium, and what to tell the user."""
    if envpool.obstacle(settings) is not None:
        return "gymnasium", None
    if envpool.installed():
        return "envpool", None
    return "gymnasium", (
        "EnvPool is not installed (it has wheels for Linux on x86-64): "
        f"{settings.id} runs on Gymnasium, which is slower."
    )


def _make(backend: str, settings: EnvironmentSettings, layout: Layout, threads: int) -> VectorEnv:
    if backend == "gymnasium":
        return GymnasiumVectorEnv(settings, layout)
    if backend == "async":
        return AsyncGymnasiumVectorEnv(settings, layout)
    module = {"envpool": envpool, "ale": ale}[backend]
    reason = module.obstacle(settings)
    if reason is None and not module.installed():
        reason = "it is not installed"
    if reason is not None:
        raise UsageError(f"backend {backend!r} can't run {settings.id}: {reason}. Use auto or gymnasium.")
    if backend == "envpool":
        return envpool.EnvPoolVectorEnv(settings, layout.local, threads)
    return ale.ALEVectorEnv(settings, layout.local, threads)
