"""Writes a study as a Slurm job array."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from ppo_and_friends.common.atomic_files import replace_file
from ppo_and_friends.errors import UsageError
from ppo_and_friends.studies.plan import StudyRun, is_finished
from ppo_and_friends.studies.pool import command

OPTION = re.compile(r"--[a-z][a-z-]*(=[^\n]*)?")

SCRIPT = """\
#!/bin/bash
# Trains one run of the study in each task of the array. Submit it with: sbatch {script}
# Runs that were stopped go on when it is submitted again; finished ones end at once.
#SBATCH --job-name="{name}"
#SBATCH --array=1-{count}{limit}
#SBATCH --ntasks={ranks}
#SBATCH --cpus-per-task=1
#SBATCH --output="{folder}/slurm/%A_%a.log"
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
{options}
cd {directory}
export OMP_NUM_THREADS=${{SLURM_CPUS_PER_TASK:-1}}
run=$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" {runs})
trap 'kill -USR1 $child; wait $child' USR1   # the time limit is near: finish the iteration and save
eval "exec {start}$run" &
child=$!
wait $child
"""


def write_array(
    runs: Sequence[StudyRun],
    folder: Path,
    *,
    options: Sequence[str] = (),
    ranks: int | None = None,
    at_once: int | None = None,
) -> Path:
    """Write the job array's script, and one command a line for the runs that aren't finished.

    Args:
        runs: The study.
        folder: The study's; the files go to its ``slurm/``.
        options: Further options of sbatch, such as ``time=2:00:00`` and ``partition=cpu``.
        ranks: MPI ranks of each run; None: no MPI.
        at_once: How many tasks may run at once; None: no limit.

    Returns:
        The script.

    Raises:
        UsageError: All runs are finished, an option is wrong, or nothing can be written.
    """
    waiting = [run for run in runs if not is_finished(run)]
    if not waiting:
        raise UsageError(f"All {len(runs)} runs in {folder} are finished: there is nothing to submit.")
    words = [f"--{word.lstrip('-')}" for word in options]
    wrong = [word for word in words if not OPTION.fullmatch(word)]
    if wrong:
        raise UsageError(f"--slurm {wrong[0]}: write an option of sbatch as name or name=value.")
    place = folder.resolve() / "slurm"
    script, commands = place / "array.sh", place / "runs.txt"
    text = SCRIPT.format(
        script=shlex.quote(str(script)),
        name=folder.name,
        count=len(waiting),
        limit="" if at_once is None else f"%{at_once}",
        ranks=ranks or 1,
        folder=str(folder.resolve()).replace("%", "%%"),
        options="".join(f"#SBATCH {word}\n" for word in words),
        directory=shlex.quote(os.getcwd()),
        runs=shlex.quote(str(commands)),
        start="" if ranks is None else f"srun -n {ranks} ",
    )
    lines = [shlex.join([*command(), *run.arguments]) for run in waiting]
    try:
        place.mkdir(parents=True, exist_ok=True)
        replace_file(commands, ("\n".join(lines) + "\n").encode())
        replace_file(script, text.encode())
    except OSError as error:
        raise UsageError(f"{place} can't be written: {error.strerror or error}.") from error
    return script
