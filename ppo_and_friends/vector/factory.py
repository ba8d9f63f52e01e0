"""Creates the vectorised environments: from settings to a checked VectorEnv on the right backend."""

from __future__ import annotations

from dataclasses import fields

from ppo_and_friends.distributed.layout import Layout
from ppo_and_friends.errors import UsageError
from ppo_and_friends.settings.experiment import AgentSettings, EnvironmentSettings
from ppo_and_friends.vector import ale, envpool
from ppo_and_friends.vector.checks import CheckedVectorEnv
from ppo_and_friends.vector.gymnasium import GymnasiumVectorEnv
from ppo_and_friends.vector.petting_zoo import PettingZooVectorEnv
from ppo_and_friends.vector.processes import AsyncGymnasiumVectorEnv
from ppo_and_friends.vector.protocol import VectorEnv
from ppo_and_friends.vector.teams import Teams


def check_agents(settings: EnvironmentSettings, agents: AgentSettings) -> None:
    """Refuse settings of several agents where there is one. Creates nothing.

    Raises:
        UsageError: One of them isn't its default.
    """
    if settings.api == "petting_zoo":
        return
    default = AgentSettings()
    for one in fields(AgentSettings):
        if getattr(agents, one.name) != getattr(default, one.name):
            raise UsageError(f"agents.{one.name}: {settings.id} has a single agent. Leave it out.")


def make_vector_env(
    settings: EnvironmentSettings,
    layout: Layout,
    threads: int = 1,
    agents: AgentSettings | None = None,
    *,
    tasked: bool = False,
    exact: bool = False,
) -> CheckedVectorEnv:
    """Create this rank's training environments.

    Args:
        settings: The environment and the backend; ``num_envs`` is ignored in favour of ``layout``.
        layout: This rank's environments.
        threads: Number of threads this rank may use to step them.
        agents: What several agents in one environment share; None: the defaults.
        tasked: Whether friends will change what environments are asked for (`protocol.Task`).
        exact: Whether the environments' states will be saved.

    Returns:
        A `VectorEnv` that checks its data. ``backend`` is the name of the backend that was chosen,
        ``notes`` are messages for the user.

    Raises:
        UsageError: The environment can't be created, its spaces aren't supported, or the requested
            backend can't run it.
        EnvironmentFault: The environment's own code raised an exception.
    """
    if settings.api == "petting_zoo":
        every = [*make_policy_envs(settings, agents or AgentSettings(), layout)[1].values()]
        if len(every) > 1:
            every[0].close()
            raise UsageError("agents.policies: several policies are trained as a whole run only.")
        return every[0]
    if agents is not None:
        check_agents(settings, agents)
    notes: list[str] = []
    backend: str = settings.backend
    if backend == "auto":
        backend, note = _choose(settings, tasked, exact)
        if note:
            notes.append(note)
    return CheckedVectorEnv(_make(backend, settings, layout, threads), layout.first, notes)


def make_policy_envs(
    settings: EnvironmentSettings, agents: AgentSettings, layout: Layout
) -> tuple[Teams, dict[str, CheckedVectorEnv]]:
    """Create this rank's environments with several agents, seen by each policy as rows of its own agents.

    Args:
        settings: The environment; ``num_envs`` is ignored in favour of ``layout``.
        agents: What the agents share, and their policies.
        layout: This rank's environments.

    Returns:
        The environments, and the rows of each policy. A single policy's steps them; with several, all offer
        their actions first, then the environments are stepped.

    Raises:
        UsageError: As `make_vector_env`.
        EnvironmentFault: As `make_vector_env`.
    """
    if settings.backend != "auto":
        raise UsageError(
            f"backend {settings.backend!r} can't run {settings.id}, which has several agents. "
            "Set environment.backend to auto."
        )
    teams = Teams(settings, layout)
    try:
        policies = agents.policy_of(teams.agents)
        alone = len(policies) == 1
        return teams, {
            name: CheckedVectorEnv(
                PettingZooVectorEnv(teams, settings, agents, None if alone else members), layout.first
            )
            for name, members in policies.items()
        }
    except BaseException:
        teams.close()
        raise


def _choose(settings: EnvironmentSettings, tasked: bool, exact: bool) -> tuple[str, str | None]:
    """Return the fastest backend that is known to agree with Gymnasium, and a note for the user, if any."""
    if envpool.unsupported_reason(settings) is not None:
        return "gymnasium", None
    if tasked:
        return "gymnasium", (
            f"EnvPool can't change {settings.id} between episodes, as friends want: it runs on Gymnasium's "
            "backend, which is slower."
        )
    if exact:
        return "gymnasium", (
            f"EnvPool can't save the states of environments (exact_resume): {settings.id} runs on "
            "Gymnasium's backend, which is slower."
        )
    if envpool.installed():
        return "envpool", None
    return "gymnasium", (
        "EnvPool is not installed (it is available for Linux on x86-64): "
        f"{settings.id} runs on Gymnasium's backend, which is slower."
    )


def _make(backend: str, settings: EnvironmentSettings, layout: Layout, threads: int) -> VectorEnv:
    if backend == "gymnasium":
        return GymnasiumVectorEnv(settings, layout)
    if backend == "async":
        return AsyncGymnasiumVectorEnv(settings, layout)
    module = {"envpool": envpool, "ale": ale}[backend]
    reason = module.unsupported_reason(settings)
    if reason is None and not module.installed():
        reason = "it is not installed"
    if reason is not None:
        raise UsageError(
            f"backend {backend!r} can't run {settings.id}: {reason}. "
            "Set environment.backend to auto or gymnasium."
        )
    if backend == "envpool":
        return envpool.EnvPoolVectorEnv(settings, layout.local, threads)
    return ale.ALEVectorEnv(settings, layout.local, threads)
