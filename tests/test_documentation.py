"""The documentation says what the code does: generated pages are up to date, and names in the text exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from docs.generator.friends import GROUPS, hooks
from docs.generator.metrics import NOT_DRAWN
from docs.generator.pages import generated, with_block
from docs.generator.types import type_in_words, value_in_words
from ppo_and_friends.friends.catalog import BUILT_IN, OF_AGENTS, STARTING_POINTS, find_friend
from ppo_and_friends.reporting.progress_csv import COLUMNS, read_rows
from ppo_and_friends.reporting.run_metrics import FINAL, METRICS, SAMPLES
from ppo_and_friends.reporting.tensorboard import tag_of
from ppo_and_friends.settings.experiment import PPOSettings
from ppo_and_friends.settings.overrides import apply_settings, setting_names
from ppo_and_friends.settings.registry import resolve
from tests.command_line import SMALL, run
from tests.friends.test_group import EPOCH, SETUP, STEP
from tests.test_architecture import FLOORS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


@pytest.mark.parametrize("path", generated(), ids=lambda path: path.name)
def test_generated_pages_are_what_the_code_gives(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == generated()[path], "run `python -m docs.generator`"


def test_a_block_is_replaced_between_its_markers() -> None:
    assert with_block("a\n<!-- x:start -->\nold\n<!-- x:end -->\nb", "x", "new") == (
        "a\n<!-- x:start -->\nnew\n<!-- x:end -->\nb"
    )
    with pytest.raises(ValueError, match="x:start"):
        with_block("no markers", "x", "new")


def test_every_setting_is_in_the_reference_with_its_default() -> None:
    text = (DOCS / "settings.md").read_text()
    rows = {line.split(" | ")[0].strip("| `"): line for line in text.splitlines() if line.startswith("| `")}
    for launcher in ("CartPole", "BreakoutPixels"):
        # Where there is no Atari game, its section is a single setting: none.
        assert set(setting_names(resolve(launcher))) - {"environment.atari"} <= set(rows)
    assert "| float ≥ 0, ≤ 1 | `0.99` |" in rows["ppo.gamma"]
    assert "| float > 0 or none | `0.5` |" in rows["ppo.max_grad_norm"]
    assert "| [schedule](#schedules) ≥ 0 | `0.0003` |" in rows["ppo.learning_rate"]
    # Defaults are written as --set takes them.
    changed = apply_settings(
        resolve("CartPole"), ["network.actor_hidden=[64,64]", "ppo.value_clip_range=none"]
    )
    assert changed.network.actor_hidden == (64, 64) and changed.ppo.value_clip_range is None


def test_types_and_values_in_words() -> None:
    assert type_in_words(int | None) == "int or none"
    assert type_in_words(tuple[str, ...]) == "list of text"
    assert value_in_words((64, 64)) == "`[64,64]`"
    assert value_in_words(None) == "`none`"
    assert value_in_words(PPOSettings().learning_rate) == "`0.0003`"


def test_every_friend_has_one_place_in_the_table() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(
        (*BUILT_IN, *STARTING_POINTS, *OF_AGENTS)
    )


def test_hooks_are_listed_in_the_order_of_their_calls() -> None:
    order = [
        *(*SETUP[:2], "critic_observation_space", *SETUP[2:]),  # where the critic sees more
        *("before_rollout", "choose_task"),
        *(STEP[0], "transform_critic", *STEP[1:]),  # where the critic has observations of its own
        "after_rollout",
        *("decode_values", "adjust_values", "after_estimation", "encode_returns", "before_update"),
        *dict.fromkeys(EPOCH),
        *("after_update", "metrics", "recordings", "before_checkpoint", "finished"),
    ]
    assert list(hooks()) == order
    outline = (DOCS / "friends.md").read_text().split("```")[1]
    places = [outline.index(name) for name in order]
    assert places == sorted(places)


WITH_METRICS = (
    *(
        "RewardNormalizer",
        "RewardClip:low=-1:-10,high=1:10",
        "ValueNormalizer",
        "ICM",
        "RND",
        "StdClip",
        "KLPenalty",
        "KLAnchor",
    ),
    'Curriculum:attributes={"g": "10,9@4000"}',
    *("SymmetryAugmentation:method=loss", "Evaluator:every=100,episodes=1", "BestPolicyKeeper"),
)
"""All that report something, but for PopArt, which excludes ValueNormalizer and reports the same."""


def described(friends: list[str]) -> set[str]:
    return {f"{name}/{metric.name}" for name in friends for metric in find_friend(name).reported}


def test_a_run_reports_what_the_reference_lists_and_nothing_else(tmp_path: Path) -> None:
    friends = [f"--with={text}" for text in WITH_METRICS]
    options = [option for option in SMALL if option != "--no_tensorboard"]
    # Pendulum's episodes have 200 steps. The seventh iteration, from 4 x 192 timesteps on, is the first
    # in which some end, and the last one, whose numbers TensorBoard is sure to have.
    done = run("-e", "Pendulum", "--num_timesteps=890", "--state_path", tmp_path, "-q", *options, *friends)
    assert done.status == 0, done.err
    names = [text.partition(":")[0] for text in WITH_METRICS]
    assert described(list(BUILT_IN)) == described([*names, "PopArt"]), (
        "a friend that reports isn't in the run"
    )
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    columns, _ = read_rows(folder / "progress.csv")
    assert set(columns) == set(METRICS) | described(names)
    assert set(COLUMNS) <= set(METRICS)
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    drawn = {tag_of(name) for name in (set(METRICS) | described(names)) - set(NOT_DRAWN)}
    assert set(events.Tags()["scalars"]) == drawn | {metric.name for metric in FINAL}
    streams = {f"{kind}/novelty" for kind in ("rewards", "values")}
    histograms = {tag for tag in events.Tags()["tensors"] if not tag.startswith("_hparams_/")}
    assert histograms == {metric.name for metric in SAMPLES} | streams


def test_the_table_of_rooms_has_the_floors_that_are_tested() -> None:
    text = (DOCS / "architecture.md").read_text()
    rows = [(int(floor), room) for floor, room in re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)]
    assert sorted(rows) == sorted((level, room) for level, rooms in enumerate(FLOORS) for room in rooms)
