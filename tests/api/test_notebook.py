"""In a Jupyter kernel: one output that is replaced, and no terminal's control characters."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from ppo_and_friends import train
from ppo_and_friends.reporting import notebook
from ppo_and_friends.reporting.notebook import in_notebook
from tests.api.test_run import small


class Handle:
    """What `display` returns."""

    def __init__(self, shown: list[Any]) -> None:
        self.shown = shown

    def update(self, picture: Any) -> None:
        self.shown.append(picture)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """Pretends to be a kernel; fills with the pictures of each display."""
    displays: list[list[Any]] = []

    def display(picture: Any, display_id: bool) -> Handle:
        assert display_id
        displays.append([picture])
        return Handle(displays[-1])

    shell = SimpleNamespace(kernel=object())
    module = SimpleNamespace(get_ipython=lambda: shell, display=SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython", module)
    return displays


def test_only_a_kernel_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    for shell in (None, SimpleNamespace()):  # a plain interpreter, IPython in a terminal
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda shell=shell: shell))
        assert not in_notebook()


def test_one_output_is_replaced(
    shown: list[list[Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notebook, "UPDATE_SECONDS", 0.0)
    run = train(small()).finish()
    pictures = shown[0]
    # The first before any iteration, one for each, and the last state when it ends.
    assert len(shown) == 1 and len(pictures) == run.new_iterations + 2
    html = pictures[-1]._repr_html_()
    assert html.startswith("<pre") and "explained variance" in html and "━" in html and "100%" in html
    assert "explained variance" in repr(pictures[-1]) and "<span" not in repr(pictures[-1])
    out = capsys.readouterr().out
    assert "iteration 1 " not in out and "Trained CartPole" in out and "\x1b" not in out


def test_pictures_are_not_made_more_often_than_they_can_be_seen(shown: list[list[Any]]) -> None:
    train(small(timesteps=300)).finish()
    assert len(shown[0]) <= 4


def test_a_loop_of_ones_own_shows_nothing(shown: list[list[Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(train(small()).iterations())) >= 5
    assert shown == [] and capsys.readouterr().out == ""
