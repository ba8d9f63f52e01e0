"""The commands about saved runs: plot their curves, report on one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ppo_and_friends.cli.options import Options
from ppo_and_friends.cli.study_options import AllOptions
from ppo_and_friends.errors import UsageError
from ppo_and_friends.runs.run_folder import policies_in


def plot_or_report(options: AllOptions) -> None:
    """Do what the options ask for, and print where the result is. On rank 0.

    Raises:
        UsageError: A folder holds no run, or something can't be written.
    """
    from ppo_and_friends.studies.first_difference import are_two_runs, compare_bits

    if options.plot is not None:
        folders = options.plot or saved_runs(options)
        paths = plot(folders, column=options.plot_column, axis=options.plot_axis, output=options.plot_file)
        print(f"Plotted: {paths[0]}, interactive: {paths[1]}")
    if options.compare and options.compare_file is None and are_two_runs(options.compare):
        print(compare_bits(*map(Path, options.compare)))
    elif options.compare:
        from ppo_and_friends.studies.compare import compare

        paths = compare(options.compare, column=options.compare_column, output=options.compare_file)
        print(f"Plotted: {paths[0]}, numbers: {paths[1]}")
    if options.pack is not None:
        from ppo_and_friends.studies.pack import pack

        packed = pack(options.pack, options.pack_file)
        print(f"Packed: {packed}")
        if options.push is not None:
            from ppo_and_friends.studies.hub import push

            print(f"Uploaded: {push(packed, options.push)}")
    if options.report is not None:
        from ppo_and_friends.reporting.page import write_report

        print(f"Written: {write_report(options.report)}")


def saved_runs(options: Options) -> list[Path]:
    """The folders of all saved runs of the launcher that ``-e`` names.

    Raises:
        UsageError: No environment is named, or it has no runs.
    """
    if options.environment is None:
        raise UsageError("--plot: which runs? Give their folders, or a launcher with -e NAME.")
    from ppo_and_friends.reporting.run_record import load_settings
    from ppo_and_friends.settings.registry import resolve

    name = resolve(options.environment).name
    places = sorted(options.state_path.iterdir()) if options.state_path.is_dir() else []
    found = [
        place
        for place in places
        if ((place / "progress.csv").is_file() or policies_in(place))
        and load_settings(place).get("name") == name
    ]
    if not found:
        raise UsageError(
            f"--plot: no run of {name} is saved in {options.state_path}. Give the runs' folders."
        )
    return found


def plot(folders: Sequence[Path], *, column: str, axis: str, output: Path | None = None) -> list[Path]:
    """Plot a column of one or many runs as ``<output>.png`` and, interactively, ``<output>.html``.

    Args:
        folders: The runs' folders; of a run with several policies, each is drawn.
        column: What to draw.
        axis: ``timesteps`` or ``seconds``.
        output: Where, an extension is left out; None: ``plot_<column>`` in the one run's folder, or in
            the folder that holds all the runs.

    Returns:
        The files.

    Raises:
        UsageError: A folder holds no run, no run has the column, or it can't be written.
    """
    from ppo_and_friends.reporting.interactive import write_interactive
    from ppo_and_friends.reporting.plots import draw, make_plot
    from ppo_and_friends.reporting.run_record import load_run
    from ppo_and_friends.reporting.waiting import Waiting

    places = [place for folder in folders for place in (policies_in(folder).values() or [folder])]
    runs = []
    with Waiting() as waiting:
        for number, folder in enumerate(places):
            waiting(number / len(places), f"reading run {number + 1} of {len(places)}")
            runs.append(load_run(folder))
    prepared = make_plot(runs, column, x=axis)
    if output is None:
        output = Path(os.path.commonpath([run.folder.resolve() for run in runs])) / f"plot_{column}"
    elif output.suffix in (".png", ".html"):
        output = output.with_suffix("")
    picture, page = (output.with_name(f"{output.name}{suffix}") for suffix in (".png", ".html"))
    try:
        draw(prepared, picture)
        write_interactive(prepared, page)
    except OSError as error:
        raise UsageError(
            f"{error.filename or output} can't be written: {error.strerror or error}."
        ) from error
    return [picture, page]
