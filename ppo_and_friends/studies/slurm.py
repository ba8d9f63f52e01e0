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
# A run that the time limit stops is saved, queued again, and goes on; finished ones end at once.
#SBATCH --job-name="{name}"
#SBATCH --array={tasks}{limit}
#SBATCH --ntasks={ranks}
#SBATCH --cpus-per-task=1
#SBATCH --output="{folder}/slurm/%A_%a.log"
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
{options}
cd {directory}
export OMP_NUM_THREADS=${{SLURM_CPUS_PER_TASK:-1}}
run=$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" {runs})
near=
trap 'near=1; kill -USR1 $child' USR1   # the time limit is near: finish the iteration and save
eval "exec {start}$run" &
child=$!
wait $child
status=$?
if [ -n "$near" ]; then   # the signal ended the waiting, not the run
    wait $child
    status=$?
fi
# 138: saved because of USR1. Preempted jobs (SIGTERM, 143) are queued again by Slurm itself.
if [ "$status" = 138 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""


def write_array(
    runs: Sequence[StudyRun],
    folder: Path,
    *,
    options: Sequence[str] = (),
    ranks: int | None = None,
    at_once: int | None = None,
) -> Path:
    """Write the job array's script, and the runs' commands, one a line.

    A run's line, which is its task's number, doesn't change when the array is written again: tasks of an
    earlier one that are queued again find their own.

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
    waiting = [line for line, run in enumerate(runs, 1) if not is_finished(run)]
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
        tasks=_ranges(waiting),
        limit="" if at_once is None else f"%{at_once}",
        ranks=ranks or 1,
        folder=str(folder.resolve()).replace("%", "%%"),
        options="".join(f"#SBATCH {word}\n" for word in words),
        directory=shlex.quote(os.getcwd()),
        runs=shlex.quote(str(commands)),
        start="" if ranks is None else f"srun -n {ranks} ",
    )
    lines = [shlex.join([*command(), *run.arguments]) for run in runs]
    try:
        place.mkdir(parents=True, exist_ok=True)
        replace_file(commands, ("\n".join(lines) + "\n").encode())
        replace_file(script, text.encode())
    except OSError as error:
        raise UsageError(f"{place} can't be written: {error.strerror or error}.") from error
    return script


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as Slurm writes them: 1-3,5."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
