"""What a bar shows to whoever watches."""

import io

import pytest
from rich.console import Console

from refusalscope.cli import progress
from refusalscope.cli.progress import Bars


def _watched(monkeypatch: pytest.MonkeyPatch, *, by_terminal: bool) -> io.StringIO:
    screen = io.StringIO()

    def console(**_options: object) -> Console:
        return Console(file=screen, force_terminal=by_terminal, width=120)

    monkeypatch.setattr(progress, "Console", console)
    return screen


def test_a_stage_of_unknown_length_shows_about_what_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = _watched(monkeypatch, by_terminal=True)
    with Bars().stage("select", None, unit="sweeps") as stage:
        stage(3)
        stage.expect(7.0)
        stage.say("these lead: \x1b[31mred")
    shown = screen.getvalue()
    assert "3/10" in shown
    assert "these lead: " in shown
    assert "\x1b[31mred" not in shown


def test_nobody_watches_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _watched(monkeypatch, by_terminal=False)
    with Bars().stage("select", None, unit="sweeps") as stage:
        stage(3)
        stage.expect(7.0)
        stage.say("these lead")
    assert screen.getvalue() == ""
