"""How a program starts and ends: finding the launcher, choosing a communicator, failing together.

MPI is imported only under an MPI launcher, since it takes up to a second and may be missing.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

from ppo_and_friends.distributed.communicator import Communicator
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.errors import FAILURE, PPOError, UsageError

# Most specific first: inside a Slurm allocation, mpirun's own variables say more than Slurm's.
RANK_VARIABLES = (
    "OMPI_COMM_WORLD_RANK",  # Open MPI
    "MV2_COMM_WORLD_RANK",  # MVAPICH
    "PMI_RANK",  # Hydra: MPICH and Intel MPI; also srun --mpi=pmi2 and Cray
    "PMIX_RANK",  # srun --mpi=pmix, PRRTE
    "PALS_RANKID",  # Cray PALS
    "FLUX_TASK_RANK",  # Flux
    "JSM_NAMESPACE_RANK",  # IBM Spectrum
    "SLURM_PROCID",  # srun
)
SIZE_VARIABLES = (
    "OMPI_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "PALS_SIZE",
    "FLUX_JOB_SIZE",
    "JSM_NAMESPACE_SIZE",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_NTASKS",
)
MEETING_SECONDS = 1.0
"""How long a failing rank waits to see whether all ranks failed alike."""


def _first_number(names: tuple[str, ...], variables: Mapping[str, str]) -> tuple[str, int] | None:
    for name in names:
        value = variables.get(name, "")
        if value.isdigit():
            return name, int(value)
    return None


def launcher_rank(variables: Mapping[str, str] = os.environ) -> int:
    """This process's rank as the launcher's variables have it, 0 without one. Doesn't start MPI."""
    found = _first_number(RANK_VARIABLES, variables)
    return found[1] if found else 0


def launcher_size(variables: Mapping[str, str] = os.environ) -> int | None:
    """Ranks that the launcher's variables announce; 1 without a launcher, None if it doesn't say."""
    found = _first_number(SIZE_VARIABLES, variables)
    if found:
        return found[1]
    return None if _first_number(RANK_VARIABLES, variables) else 1


def _split_world(variables: Mapping[str, str]) -> UsageError:
    found = _first_number(SIZE_VARIABLES, variables)
    name, size = found or ("?", 0)
    if name.startswith("SLURM"):
        return UsageError(
            f"Slurm has {size} tasks here ({name}={size}), but MPI sees one rank alone: the ranks don't find "
            "each other.\nStart it with `srun --mpi=pmi2` or `srun --mpi=pmix` (`srun --mpi=list` shows what "
            "there is), with the mpirun of the installed MPI, or with `srun -n 1` for a single rank."
        )
    return UsageError(
        f"The launcher started {size} ranks ({name}={size}), but each of them sees itself alone: mpi4py uses "
        "another MPI than the launcher.\nUse the mpirun that belongs to the MPI mpi4py loads (`python -m "
        "mpi4py --mpi-lib-version`), for instance the one in this environment's bin folder."
    )


def make_communicator(variables: Mapping[str, str] = os.environ) -> Communicator:
    """The communicator of this program: all ranks of the MPI job, or this process alone.

    Args:
        variables: The environment variables that tell how the process was started.

    Raises:
        UsageError: A launcher started several ranks, but MPI is missing or doesn't connect them.
    """
    announced = launcher_size(variables)
    if announced == 1:
        return SoloCommunicator()
    try:
        with warnings.catch_warnings():
            # mpi4py warns of the mismatch that is explained below.
            warnings.filterwarnings("ignore", "suspicious MPI", RuntimeWarning)
            from ppo_and_friends.distributed.mpi_communicator import MPICommunicator
    except (ImportError, RuntimeError, OSError) as error:
        raise UsageError(
            f"An MPI launcher started this program, but MPI can't be loaded ({str(error).splitlines()[0]}).\n"
            "Install one with `pip install 'ppo-and-friends[mpi]'`, or load the cluster's MPI module."
        ) from error
    comm = MPICommunicator()
    if comm.size == 1 and announced is not None:
        raise _split_world(variables)
    return comm


def _write(text: str) -> None:
    """One write, so that the lines of several ranks don't mix."""
    if text:
        try:
            sys.stdout.flush()
            sys.stderr.write(text.rstrip("\n") + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return  # nobody reads any more


def _fail(comm: Communicator, text: str, exit_code: int, context: str) -> NoReturn:
    """End this rank, and with it the job; ranks that fail alike say so once and end quietly."""
    if comm.size == 1:
        _write(text)
        raise SystemExit(exit_code) from None
    own = f"rank {comm.rank}{context}: {text}" if text else ""
    if not comm.meet(MEETING_SECONDS):
        _write(own)
        comm.abort(exit_code)
    # Every rank is here, so none of them waits in another collective.
    ends = comm.gather((text, own, exit_code))
    if comm.is_main:
        alike = len({end[0] for end in ends}) == 1
        _write(text if alike else "\n".join(end[1] for end in ends if end[0]))
    raise SystemExit(max(end[2] for end in ends)) from None


@contextmanager
def guard(comm: Communicator, context: Callable[[], str] | None = None) -> Iterator[None]:
    """Run the program inside: whatever it raises ends the whole job, soon and said once.

    A ``PPOError`` is printed as its message and gives its exit code; any other exception prints
    its traceback. When all ranks fail within a second of one another, as for a mistake in the
    command line, rank 0 speaks for those that say the same and all exit normally. Otherwise the
    failing rank speaks for itself and aborts the job, because the others wait for it.

    Args:
        comm: The communicator of the program.
        context: Gives a few words for the message, such as ``iteration 12``.

    Raises:
        SystemExit: With the exit code, unless the job was aborted.
    """
    try:
        yield
    except BaseException as error:
        where = f" ({context()})" if context else ""
        if isinstance(error, SystemExit):
            if error.code in (0, None):
                raise
            text, code = ("", error.code) if isinstance(error.code, int) else (str(error.code), FAILURE)
        elif isinstance(error, KeyboardInterrupt):
            text, code = "interrupted", 130
        elif isinstance(error, PPOError):
            text, code = str(error), error.exit_code
        else:
            # Not with the frame of this function, which says nothing.
            trace = error.__traceback__.tb_next if error.__traceback__ else None
            text = "".join(traceback.format_exception(type(error), error, trace))
            text, code = (f"at {context()}:\n{text}" if context else text), FAILURE
            where = ""
        _fail(comm, text, code, where)
