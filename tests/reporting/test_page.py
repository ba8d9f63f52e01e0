"""The one-page report: what is in it, that it loads nothing, and how a real browser draws it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppo_and_friends.cli.main import main
from ppo_and_friends.errors import UsageError
from ppo_and_friends.reporting.page import MOST_POINTS, plots_of, write_report
from ppo_and_friends.reporting.run_record import load_run
from tests.reporting.test_plots import Page

SETTINGS = {
    "name": "Toy <b>",
    "random_seed": 7,
    "reward_threshold": 40,
    "environment": {"id": "Toy-v0", "num_envs": 16},
    "ppo": {"clip_range": {"start": 0.2, "end": 0.0}, "value_clip_range": None},
    "friends": [{"name": "KLEarlyStop", "arguments": {"target": 0.02}}],
}


def make_run(folder: Path, rows: int = 40, tested: bool = True) -> Path:
    folder.mkdir(parents=True)
    record = {
        "experiment": SETTINGS,
        "command_line": ["main.py", "-e", "Toy", "--set", "name=a b"],
        "ranks": 2,
        "versions": {"python": "3.11.2", "torch": "2.13.0"},
        "saved_at": "2026-01-02T03:04:05+00:00",
    }
    (folder / "experiment.json").write_text(json.dumps(record))
    names = "iteration,timesteps,seconds,episode_return_mean,episode_return_mean_100,entropy,kl,icm/loss"
    lines = [f"{i},{1000 * i},{2 * i},{i},{i},{1 / i},,{i**2}" for i in range(1, rows + 1)]
    (folder / "progress.csv").write_text("\n".join([names, *lines, ""]))
    if tested:
        episodes = [{"score": 1234.5, "length": 1000}, {"score": -7.25, "length": 12}]
        scores = {
            "environment": "Toy-v0",
            "timesteps": 40_000,
            "episodes": episodes,
            "mean": 613.625,
            "std": 620.875,
        }
        (folder / "test_scores.json").write_text(json.dumps(scores))
        frames = [Image.new("RGB", (64, 48), (200, 30 * i, 40)) for i in range(4)]
        frames[0].save(folder / "episode.gif", save_all=True, append_images=frames[1:], duration=100, loop=0)
    return folder


def test_all_is_in_one_file(tmp_path: Path) -> None:
    path = write_report(make_run(tmp_path / "run"))
    assert path == tmp_path / "run" / "report.html"
    text = path.read_text()
    page = Page(text)
    assert page.loads == []
    assert {"curves", "evaluation", "settings", "origin"} <= set(page.ids)
    assert {"plot-episode_return_mean", "plot-entropy", "plot-icm/loss"} <= set(page.ids)
    assert "plot-kl" not in page.ids  # it has no number
    for said in (
        "Toy &lt;b&gt;", "Toy-v0, 16 environments on 2 ranks, seed 7, begun 2026-01-02 03:04",
        "main.py -e Toy --set &#39;name=a b&#39;", "python 3.11.2, torch 2.13.0", "1,234.50", "-7.25",
        "613.62 ± 620.88", "target=0.02", "0.2:0", "data:image/gif;base64,",
    ):  # fmt: skip
        assert said in text, said
    assert "Toy <b>" not in text.split("<script", 1)[0]


def test_an_untested_run_has_no_empty_parts(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path / "run", tested=False), tmp_path / "page.html").read_text())
    assert "evaluation" not in page.ids and "curves" in page.ids


def test_long_runs_are_thinned(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "run", rows=2 * MOST_POINTS + 1))
    plots = plots_of(run)
    assert [plot.column for plot in plots] == ["episode_return_mean", "entropy", "icm/loss"]
    assert all(len(curve.x) <= MOST_POINTS for plot in plots for curve in plot.drawn)
    assert plots[0].drawn[0].x[-1] == 1000 * (2 * MOST_POINTS + 1)


def test_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        write_report(tmp_path / "nothing")


FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --virtual-time-budget=2000"
)


def browser() -> str:
    """One that runs headless. Without it the test is skipped, unless NEEDS_BROWSER says that there is one."""
    found = [name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)]
    if found:
        return found[0]
    outcome = pytest.fail if os.environ.get("NEEDS_BROWSER") else pytest.skip
    outcome("no browser is installed (apt-get install chromium)")


@pytest.mark.slow
def test_a_browser_draws_it(tmp_path: Path) -> None:
    page = write_report(make_run(tmp_path / "run"))
    picture = tmp_path / "page.png"
    environ = os.environ | {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [
        browser(),
        *FLAGS.split(),
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1200,2200",
    ]
    done = subprocess.run(
        [*command, "--dump-dom", f"--screenshot={picture}", page.as_uri()],
        capture_output=True, text=True, timeout=90, env=environ, check=True,
    )  # fmt: skip
    drawn = done.stdout
    # Plotly ran: each of the plots has its drawing in the document.
    assert len(re.findall(r'class="main-svg"', drawn)) >= 3
    assert len(re.findall(r'class="js-line"', drawn)) >= 3
    with Image.open(picture) as image:
        colors = {tuple(color) for color in np.asarray(image.convert("RGB")).reshape(-1, 3)[::5].tolist()}
    assert (0x00, 0x72, 0xB2) in colors, "no curve is in the picture"


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "run", tested=False)
    assert main(["--report", str(folder)]) == 0
    assert (folder / "report.html").is_file() and str(folder / "report.html") in capsys.readouterr().out
    assert main(["--plot", str(folder), "--plot_column", "entropy"]) == 0
    assert (folder / "plot_entropy.png").is_file() and (folder / "plot_entropy.html").is_file()
    with pytest.raises(SystemExit) as ended:
        main(["--report", str(tmp_path / "nothing")])
    assert ended.value.code == 2 and "holds no run" in capsys.readouterr().err


def test_sessions_with_other_settings_are_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    record = json.loads((folder / "experiment.json").read_text())
    begun = {"timesteps": 0, "started_at": "2026-01-01T00:00:00+00:00", "ranks": 1, "changes": {}}
    resumed = {
        "timesteps": 12_000,
        "started_at": "2026-01-02T03:04:05+00:00",
        "ranks": 2,
        "changes": {"num_timesteps": [12_000, 40_000], "friends.Evaluator": [None, "yes"]},
    }
    (folder / "experiment.json").write_text(json.dumps(record | {"history": [begun]}))
    assert "Sessions" not in write_report(folder).read_text()
    (folder / "experiment.json").write_text(json.dumps(record | {"history": [begun, resumed]}))
    text = write_report(folder).read_text()
    assert "begun 2026-01-01 00:00" in text and "12,000</td>" in text
    assert "num_timesteps: 12000 → 40000; friends.Evaluator: none → yes" in text
