"""Figures as files: colours of the page, ids that do not change, one line where a tool lacks."""

import asyncio
import importlib.util
from pathlib import Path

import pytest
from kaleido.errors import ChromeNotFoundError
from page_browser import require_chromium
from runs_on_disk import write_made_up_run

from refusalscope.errors import InputError, MissingExtraError, OutputError
from refusalscope.report import figure_files, several_files
from refusalscope.report.figure_files import print_colours, without_random_id, write_figures
from refusalscope.report.several_runs import OneOfSeveral, read_several


@pytest.fixture
def runs(tmp_path: Path) -> tuple[OneOfSeveral, ...]:
    return read_several([write_made_up_run(tmp_path / "run", name="m", source="m", n_layers=10)])


def test_the_random_id_of_a_drawing_is_taken_from_ids_alone() -> None:
    svg = (
        '<defs id="defs-999999"><clipPath id="clip999999xy"/></defs><g id="topdefs-999999"/>'
        '<pattern id="p999999-trace-0-0"/><path d="M1.999999,-999999" fill="#999999"/>'
    )
    assert without_random_id(svg) == (
        '<defs id="defs-0"><clipPath id="clip0xy"/></defs><g id="topdefs-0"/>'
        '<pattern id="p0-trace-0-0"/><path d="M1.999999,-999999" fill="#999999"/>'
    )
    assert without_random_id("<svg/>") == "<svg/>"


def test_colours_are_those_of_the_light_theme() -> None:
    colours = print_colours()
    assert colours["--series-1"].strip() == "#2563c9"
    assert "Helvetica" in colours["--sans"]


def test_every_chart_is_drawn_with_its_colours_a_title_and_named_traces(
    runs: tuple[OneOfSeveral, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    async def draw(figures: list[tuple[str, dict[str, object]]]) -> dict[str, tuple[bytes, bytes]]:
        asked.update(figures)
        await asyncio.sleep(0)
        return {name: (b"<svg/>", b"png") for name, _ in figures}

    monkeypatch.setattr(figure_files, "_draw", draw)
    write_figures(runs, tmp_path / "figures")
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert names == set(asked)
    assert {"figure-1", "figure-3", "figure-23", "figure-11-run-1-bypass"} <= names
    assert "var(--" not in str(asked)
    first = asked["figure-1"]
    assert [trace["uid"] for trace in first["data"]][:2] == ["trace-0", "trace-1"]
    assert first["layout"]["title"]["text"].startswith("Refusal and safety")


def test_figures_are_drawn_where_a_loop_runs_as_in_a_notebook(
    runs: tuple[OneOfSeveral, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def draw(figures: list[tuple[str, dict[str, object]]]) -> dict[str, tuple[bytes, bytes]]:
        await asyncio.sleep(0)
        return {name: (b"<svg/>", b"png") for name, _ in figures}

    async def notebook() -> None:
        write_figures(runs, tmp_path / "figures")

    monkeypatch.setattr(figure_files, "_draw", draw)
    asyncio.run(notebook())
    assert (tmp_path / "figures" / "figure-1.svg").read_text() == "<svg/>"


def test_without_kaleido_one_line_says_what_to_install(
    runs: tuple[OneOfSeveral, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'refusalscope\[figures\]'"):
        write_figures(runs, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_without_a_browser_one_line_says_what_to_install(
    runs: tuple[OneOfSeveral, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(**_options: object) -> None:
        raise ChromeNotFoundError("a paragraph of advice")

    monkeypatch.setattr("kaleido.Kaleido", absent)
    with pytest.raises(InputError, match="none was found; install one"):
        write_figures(runs, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_a_folder_that_exists_is_left_alone(runs: tuple[OneOfSeveral, ...], tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists already"):
        write_figures(runs, tmp_path)


def test_what_was_written_before_a_disk_was_full_does_not_stand_in_the_way_later(
    runs: tuple[OneOfSeveral, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def draw(figures: list[tuple[str, dict[str, object]]]) -> dict[str, tuple[bytes, bytes]]:
        await asyncio.sleep(0)
        return {name: (b"<svg/>", b"png") for name, _ in figures}

    def full(_runs: object, folder: Path) -> None:
        raise OutputError(f"no space left on the disk of {folder}; free some and start again")

    monkeypatch.setattr(figure_files, "_draw", draw)
    asked = {name: tmp_path / name for name in ("page", "figures", "tables")}
    (tmp_path / "mine").write_text("mine")
    for name in ("write_tables", "write_several"):
        with monkeypatch.context() as patch:
            patch.setattr(several_files, name, full)
            with pytest.raises(OutputError, match="no space left"):
                several_files.write_all(runs, **asked)
        assert {path.name for path in tmp_path.iterdir()} == {"mine", "run"}
    several_files.write_all(runs, **asked)
    assert all(path.exists() for path in asked.values())
    with pytest.raises(OutputError, match="exists already"):
        several_files.write_all(runs, page=tmp_path / "new", figures=None, tables=tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_two_drawings_have_the_same_bytes(runs: tuple[OneOfSeveral, ...], tmp_path: Path) -> None:
    require_chromium()
    for name in ("one", "two"):
        write_figures(runs, tmp_path / name)
    svgs = sorted(path.name for path in (tmp_path / "one").glob("*.svg"))
    assert len(svgs) == 3 + 6
    for name in svgs:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one" / "figure-1.png").read_bytes().startswith(b"\x89PNG")
