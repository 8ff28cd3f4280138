"""A run's folder read back."""

import shutil
from pathlib import Path

import pytest
from tiny_models import save_tiny
from tiny_runs import contents, finish_run, instruction_files

import refusalscope as rs
from refusalscope.errors import RunFolderError
from refusalscope.library import tables

COLUMNS = {"measures", "judge", "dataset", "condition", "rate", "n", "low", "high"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    instruction_files(folder)
    return finish_run(folder, save_tiny(folder / "tiny"), folder / "out")


@pytest.fixture
def without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "find_spec", lambda _name: None)


@pytest.mark.usefixtures("without_pandas")
def test_tables_are_plain_rows_without_pandas(finished: Path) -> None:
    run = rs.open_run(finished)
    rates, completions, judgements = run.rates(), run.completions(), run.judgements()
    assert {frozenset(row) for row in rates} == {frozenset(COLUMNS)}
    assert {row["judge"] for row in rates} == {"refusal_in_answer", "refusal_phrases"}
    assert {row["n"] for row in rates} == {3}
    assert len(completions) == len(run.records.completions) == 3 * 10
    assert len(judgements) == 2 * len(completions)
    assert {row["measures"] for row in judgements} == {"refusal"}
    assert len(run.scores()) == len(run.records.selection.candidates)  # pyright: ignore[reportOptionalMemberAccess]
    assert sum(row["chosen"] for row in run.scores()) == 1


def test_tables_are_frames_with_pandas(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    run = rs.open_run(str(finished))
    with monkeypatch.context() as patch:
        patch.setattr(tables, "find_spec", lambda _name: None)
        plain = run.rates()
    frame = run.rates()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.to_dict("records") == plain
    assert len(run.completions()) == 30
    assert "flag" in run.judgements().columns


def test_its_direction_and_pictures_are_there_and_nothing_is_changed(finished: Path) -> None:
    before = contents(finished)
    run = rs.open_run(finished)
    assert isinstance(run.direction, rs.Direction)
    assert run.direction.layer == run.records.direction.layer  # pyright: ignore[reportOptionalMemberAccess]
    assert run.summary is not None
    assert run.plot("induce").to_dict()["layout"]["title"]["text"].startswith("Induce")
    html = run._repr_html_()
    assert "random ablation" in html
    assert "n = 3" in html
    assert contents(finished) == before
    assert rs.load(run.model).n_layers == 2


def test_what_a_folder_says_is_escaped(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    text = (out / "run.json").read_text()
    source = rs.open_run(out).model
    (out / "run.json").write_text(text.replace(source, "<script>alert(1)</script>"))
    html = rs.open_run(out)._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_a_run_that_is_not_finished_says_so(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    for name in ("selection", "evaluation", "summary.json"):
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    run = rs.open_run(out)
    assert "not finished" in run._repr_html_()
    assert len(run.rates()) == 0
    for ask in (lambda: run.direction, run.scores, run.plot):
        with pytest.raises(RunFolderError, match="has no selection yet"):
            ask()


def test_what_is_no_run_is_one_line(tmp_path: Path, finished: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    for folder in (tmp_path / "nothing", tmp_path, finished / "run.json"):
        with pytest.raises(rs.InputError) as error:
            rs.open_run(folder)
        assert "\n" not in str(error.value)


def test_several_things_are_measured_with_one_loaded_model_and_kept(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = rs.open_run(shutil.copytree(finished, tmp_path / "run"))
    found = run.measure("drift", options={"drift": {"batch_size": 2}})
    (record,) = found["drift"]
    assert record == rs.open_run(run.folder).measure("drift")["drift"][0]
    summary = rs.open_run(run.folder).summary
    assert summary is not None
    assert set(summary.measures) == {"drift"}
    monkeypatch.setattr("refusalscope.pipeline.session.reopen_any", pytest.fail)
    assert run.measure("drift")["drift"] == [record]
    for names, options, what in (
        (("drift", "nothing"), {}, "no measure is called 'nothing'"),
        (("drift",), {"loss": {}}, "options are given for 'loss'"),
        (("drift",), {"drift": {"depth": 3}}, "the options of drift: depth"),
    ):
        with pytest.raises(rs.InputError, match=what):
            run.measure(*names, options=options)
