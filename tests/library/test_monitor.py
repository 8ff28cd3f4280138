"""Monitors and guarded models of the library: what fires is steered, everything else is alone."""

from pathlib import Path
from typing import Any

import pytest
import torch

import refusalscope as rs
from refusalscope.errors import OutputError

OPTIONS: dict[str, Any] = {"kind": "projection", "fpr": 0.05, "n_threshold": 60}


@pytest.fixture(scope="module")
def file(organism_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("monitor") / "m.safetensors"
    rs.open_run(organism_run).fit_monitor(path, **OPTIONS)
    return path


def asked_of(organism: rs.Model) -> list[str]:
    facts = organism.organism
    assert facts is not None
    return [
        one.instruction
        for harmful in (True, False)
        for one in facts.language().instructions("test", harmful=harmful, n=4, seed=3)
    ]


def test_what_fires_is_answered_with_the_direction_added_and_nothing_else_is(
    organism: rs.Model, organism_run: Path, file: Path
) -> None:
    monitor, direction = rs.Monitor.load(file), rs.open_run(organism_run).direction
    asked = asked_of(organism)
    # Subtracted, so that what fires is not answered as it would be anyway: by a refusal.
    guarded = monitor.guarded(organism, direction, coefficient=-1.0)
    answers = guarded.answer(asked)
    plain = organism.answer(asked)
    with direction.subtracted(organism):
        steered = organism.answer(asked)
    flags = monitor.fires(organism, asked)
    assert flags == [score > monitor.threshold for score in monitor.scores(organism, asked)]
    assert all(flags[:4])
    assert not all(flags[4:])
    assert [answer.is_flagged for answer in answers] == flags
    for answer, flag, with_it, without in zip(answers, flags, steered, plain, strict=True):
        assert answer.text == (with_it if flag else without)
    assert steered[:4] != plain[:4]


def test_interventions_that_are_open_act_on_what_is_read(
    organism: rs.Model, organism_run: Path, file: Path
) -> None:
    monitor, direction = rs.Monitor.load(file), rs.open_run(organism_run).direction
    asked = asked_of(organism)
    with direction.ablated(organism):
        ablated = monitor.scores(organism, asked)
    # The projection on r, of a stream that has none of it, is one number for all.
    assert max(ablated) - min(ablated) < 1e-3
    assert max(monitor.scores(organism, asked)) - min(monitor.scores(organism, asked)) > 1.0


def test_what_is_of_another_model_is_one_line(
    organism: rs.Model, model: rs.Model, file: Path
) -> None:
    monitor = rs.Monitor.load(file)
    with pytest.raises(rs.InputError, match="fit one on this model"):
        monitor.scores(model, "paint the door")
    with pytest.raises(rs.InputError, match="says no layer"):
        monitor.guarded(organism, rs.Direction(vector=torch.ones(96)))
    with pytest.raises(rs.InputError, match="use a direction of this model"):
        monitor.guarded(organism, rs.Direction(vector=torch.ones(7), layer=1))


def test_options_and_files_that_do_not_fit_are_one_line(organism_run: Path, file: Path) -> None:
    run = rs.open_run(organism_run)
    with pytest.raises(rs.InputError, match="kind is 'eye'"):
        run.fit_monitor(file.parent / "other.safetensors", kind="eye")
    with pytest.raises(rs.InputError, match="colour"):
        run.fit_monitor(file.parent / "other.safetensors", colour="red")
    with pytest.raises(OutputError, match="exists already"):
        run.fit_monitor(file)
    assert not (file.parent / "other.safetensors").exists()


def test_it_shows_itself(organism: rs.Model, organism_run: Path, file: Path) -> None:
    monitor = rs.Monitor.load(str(file))
    assert "projection" in monitor._repr_html_()
    assert "60 harmless prompts" in monitor._repr_html_()
    guarded = monitor.guarded(organism, rs.open_run(organism_run).direction, coefficient=0.5)
    assert "0.5 direction lengths at layer" in repr(guarded)
