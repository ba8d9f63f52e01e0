"""Start-up and failure: detecting the MPI launcher (mpirun, srun), creating the communicator, ending the job.

MPI is imported only if an MPI launcher started the program, because the import takes up to a second
and MPI may not be installed.
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
from ppo_and_friends.distributed.out_of_memory import out_of_memory
from ppo_and_friends.distributed.solo_communicator import SoloCommunicator
from ppo_and_friends.errors import FAILURE, PPOError, UsageError

# Most specific first: inside a Slurm allocation, mpirun's own variables take precedence over Slurm's.
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
"""How long a failing rank waits for the others, in case all ranks failed for the same reason."""


def _first_number(names: tuple[str, ...], variables: Mapping[str, str]) -> tuple[str, int] | None:
    for name in names:
        value = variables.get(name, "")
        if value.isdigit():
            return name, int(value)
    return None


def mpi_launcher_rank(variables: Mapping[str, str] = os.environ) -> int:
    """Return this process's rank as set by the MPI launcher (mpirun, srun), without initialising MPI.

    Args:
        variables: The environment variables to read.

    Returns:
        The rank; 0 if no MPI launcher started this process.
    """
    found = _first_number(RANK_VARIABLES, variables)
    return found[1] if found else 0


def mpi_launcher_size(variables: Mapping[str, str] = os.environ) -> int | None:
    """Return the number of ranks as set by the MPI launcher (mpirun, srun), without initialising MPI.

    Args:
        variables: The environment variables to read.

    Returns:
        The number of ranks; 1 if no MPI launcher started this process; None if one did, but its
        variables don't include the number.
    """
    found = _first_number(SIZE_VARIABLES, variables)
    if found:
        return found[1]
    return None if _first_number(RANK_VARIABLES, variables) else 1


def _split_world(variables: Mapping[str, str]) -> UsageError:
    found = _first_number(SIZE_VARIABLES, variables)
    name, size = found or ("?", 0)
    if name.startswith("SLURM"):
        return UsageError(
            f"Slurm started {size} tasks ({name}={size}), but MPI sees a single rank: the ranks are not "
            "connected.\nUse `srun --mpi=pmi2` for MPICH and Intel MPI, `srun --mpi=pmix` for Open MPI, the "
            "mpirun of the installed MPI, or `srun -n 1` for a single rank."
        )
    return UsageError(
        f"The MPI launcher (mpirun, srun) started {size} ranks ({name}={size}), but MPI sees a single rank: "
        "mpi4py loads a different MPI.\nUse the mpirun of the MPI that mpi4py loads (`python -m mpi4py "
        "--mpi-lib-version` shows it), for instance the mpirun in this environment's bin folder."
    )


def check_library(library: str, variables: Mapping[str, str]) -> None:
    """Refuse an MPI that would end the program by itself, since it can't be started in this way.

    Args:
        library: What the MPI library says of itself, with the options with which it was built.
        variables: The environment variables.

    Raises:
        UsageError: MPICH without PMIx was started by PMIx.
    """
    by_pmix = "PMIX_RANK" in variables and "PMI_RANK" not in variables
    if by_pmix and library.startswith("MPICH Version") and "pmix" not in library.lower():
        version = library.split()[2]
        raise UsageError(
            f"The ranks were started by PMIx (srun --mpi=pmix), for which MPICH {version} isn't built.\n"
            "Use `srun --mpi=pmi2`, or an MPI that is, such as Open MPI."
        )


def make_communicator(variables: Mapping[str, str] = os.environ) -> Communicator:
    """Return the program's communicator: all ranks of the MPI job, or this process alone.

    Args:
        variables: The environment variables from which the MPI launcher (mpirun, srun) is detected.

    Raises:
        UsageError: An MPI launcher started several ranks, but MPI is missing or doesn't connect them.
    """
    announced = mpi_launcher_size(variables)
    if announced == 1:
        return SoloCommunicator()
    try:
        with warnings.catch_warnings():
            # mpi4py warns of the mismatch that the error below explains.
            warnings.filterwarnings("ignore", "suspicious MPI", RuntimeWarning)
            from ppo_and_friends.distributed.mpi_communicator import MPICommunicator, initialize

            initialize(lambda library: check_library(library, variables))
    except (ImportError, RuntimeError, OSError) as error:
        raise UsageError(
            "The MPI launcher (mpirun, srun) started this program, but MPI can't be loaded "
            f"({str(error).splitlines()[0]}).\n"
            "Install MPI with `pip install 'ppo-and-friends[mpi]'`, or load the cluster's MPI module."
        ) from error
    comm = MPICommunicator()
    if comm.size == 1 and announced is not None:
        raise _split_world(variables)
    return comm


def _write(text: str) -> None:
    """Write to stderr in a single call, so that the output of several ranks is not interleaved."""
    if text:
        try:
            sys.stdout.flush()
            sys.stderr.write(text.rstrip("\n") + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return  # the output has been closed


def _fail(comm: Communicator, text: str, exit_code: int, context: str) -> NoReturn:
    """End this rank and the job; if all ranks fail with the same message, it is printed once."""
    if comm.size == 1:
        _write(text)
        raise SystemExit(exit_code) from None
    own = f"rank {comm.rank}{context}: {text}" if text else ""
    if not comm.meet(MEETING_SECONDS):
        _write(own)
        comm.abort(exit_code)
    # Every rank has arrived, so none is waiting in another collective.
    ends = comm.gather((text, own, exit_code))
    if comm.is_main:
        alike = len({end[0] for end in ends}) == 1
        _write(text if alike else "\n".join(end[1] for end in ends if end[0]))
    raise SystemExit(max(end[2] for end in ends)) from None


@contextmanager
def guard(comm: Communicator, context: Callable[[], str] | None = None) -> Iterator[None]:
    """Context manager in which the program runs: any exception ends the whole job and is reported once.

    A ``PPOError`` prints its message and sets its exit code; any other exception prints its traceback.
    If all ranks fail within a second of one another, as with an error on the command line, rank 0
    prints the message (once, if it is the same on all ranks) and all ranks exit normally. Otherwise
    the failing rank prints its own message and aborts the job, because the other ranks would wait for
    it forever.

    Args:
        comm: The program's communicator.
        context: Returns a short description of the current state for the message, such as
            ``iteration 12``.

    Raises:
        SystemExit: With the exit code, unless the job was aborted.
    """
    try:
        yield
    except BaseException as error:
        where = f" ({context()})" if context else ""
        if isinstance(error, SystemExit):
            if error.code in (0, None):
                if comm.meet(MEETING_SECONDS):
                    raise
                # The others would wait for it, and the job's status would be 0.
                text, code = "sys.exit(0) while other ranks go on", FAILURE
            else:
                text, code = ("", error.code) if isinstance(error.code, int) else (str(error.code), FAILURE)
        elif isinstance(error, KeyboardInterrupt):
            text, code = "interrupted", 130
        elif isinstance(error, PPOError):
            text, code = str(error), error.exit_code
        elif shortage := out_of_memory(error):
            text, code = shortage, FAILURE
        else:
            # Leave out the frame of this function, which is of no interest.
            trace = error.__traceback__.tb_next if error.__traceback__ else None
            text = "".join(traceback.format_exception(type(error), error, trace))
            text, code = (f"at {context()}:\n{text}" if context else text), FAILURE
            where = ""
        _fail(comm, text, code, where)


@contextmanager
def alike(comm: Communicator, watch: bool = True) -> Iterator[None]:
    """Abort the job if only some ranks fail: the others would wait forever. For programs without `guard`.

    An error that all ranks raise within a second of one another is raised on each of them.

    Args:
        comm: The ranks.
        watch: False disables it.
    """
    try:
        yield
    except BaseException as error:
        if watch and comm.size > 1 and not comm.meet(MEETING_SECONDS):
            said = str(error) if isinstance(error, PPOError) else "".join(traceback.format_exception(error))
            _write(f"rank {comm.rank}: {said}")
            comm.abort(FAILURE)
        raise
