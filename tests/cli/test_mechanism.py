"""`refusalscope mechanism` on a tiny run: what it writes, continues, and refuses."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from sessions import in_session, in_session_told
from tiny_models import save_tiny, tiny_weights
from tiny_runs import Caller, StopAfter, StopHereError, contents, finish_run

from refusalscope.directions.direction import load_direction
from refusalscope.pipeline.mechanism import mechanism
from refusalscope.pipeline.mechanism_options import MechanismOptions
from refusalscope.results.mechanism_folder import read_mechanism
from refusalscope.results.run_records import DIRECTION, DIRECTION_TENSOR, REPORT, TIMINGS

QUICK = (
    *("--suffix-tokens", "3", "--search-prompts", "2", "--search-steps", "4"),
    *("--search-candidates", "4", "--search-top-k", "4", "--heads", "3", "--draws", "2"),
)
OPTIONS = MechanismOptions(
    suffix_tokens=3,
    search_prompts=2,
    search_steps=4,
    search_candidates=4,
    search_top_k=4,
    heads=3,
    draws=2,
)
FILES = {
    "geometry.json",
    "heads.json",
    "options.json",
    "suffix_conditions.json",
    "suffix_search.json",
    "token_projections.json",
    "tokens.json",
    "trajectories.json",
    "where_it_acts.json",
}


@pytest.fixture(scope="module")
def made(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with its mechanism, made in one go."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("made") / "run"))
    in_session(mechanism, folder, OPTIONS)
    return folder


@pytest.fixture
def done(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def without_timings(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name != TIMINGS}


def test_it_writes_every_record_and_the_page(refusalscope: Caller, run_folder: Path, made: Path):
    before = (run_folder / REPORT).read_text("utf-8")
    called = refusalscope("mechanism", run_folder, *QUICK)
    assert called.status == 0, called
    assert called.out.startswith("refusal of harmful 0.00, with a random suffix 0.00, with the ")
    assert without_timings(run_folder) == without_timings(made)
    assert {p.name for p in (run_folder / "mechanism").iterdir()} == FILES
    page = (run_folder / REPORT).read_text("utf-8")
    assert 'id="mechanism"' in page
    assert 'id="mechanism"' not in before


def test_the_records_hold_what_others_read(made: Path):
    heads = json.loads((made / "mechanism" / "heads.json").read_text("utf-8"))
    assert len(heads["heads"]) == 3
    assert heads["sum_error"] < 1e-4
    conditions = json.loads((made / "mechanism" / "suffix_conditions.json").read_text("utf-8"))
    for name in ("harmful", "harmful_random_suffix", "harmful_adversarial_suffix", "harmless"):
        assert set(conditions[name]["refusal"]) == {"rate", "n", "low", "high"}
        assert len(conditions[name]["cosine_mean"]) == len(conditions[name]["cosine_sd"]) == 2
        assert set(heads["heads"][0]["attention"][name]) >= {"instruction", "suffix", "template"}


def test_once_done_nothing_is_done_again(refusalscope: Caller, done: Path):
    first = contents(done)
    called = refusalscope("mechanism", done, *QUICK, "--json")
    assert json.loads(called.out)["refusal"]["harmful"]["n"] == 3
    assert contents(done) == first


@pytest.mark.parametrize("advances", [2, 4, 30])
def test_killed_at_any_moment_it_ends_as_if_it_never_was(
    run_folder: Path, made: Path, advances: int
):
    with pytest.raises(StopHereError):
        in_session_told(mechanism, run_folder, StopAfter(advances), OPTIONS)
    assert not (run_folder / "mechanism" / "geometry.json").exists()
    in_session(mechanism, run_folder, OPTIONS)
    assert without_timings(run_folder) == without_timings(made)


def test_a_torn_journal_is_mended(run_folder: Path, made: Path):
    with pytest.raises(StopHereError):
        in_session_told(mechanism, run_folder, StopAfter(4), OPTIONS)
    (journal,) = (run_folder / "mechanism").glob(".search-*")
    lines = journal.read_bytes().split(b"\n")
    assert len(lines) >= 3
    journal.write_bytes(b"\n".join([*lines[:2], lines[2][:10]]))
    with pytest.raises(StopHereError):
        in_session_told(mechanism, run_folder, StopAfter(4), OPTIONS)
    steps = [json.loads(line)["step"] for line in journal.read_text("utf-8").splitlines()]
    assert steps == list(range(len(steps)))
    in_session(mechanism, run_folder, OPTIONS)
    assert without_timings(run_folder) == without_timings(made)


def test_other_options_are_refused_and_nothing_is_written_over(refusalscope: Caller, done: Path):
    before = contents(done)
    called = refusalscope("mechanism", done, *QUICK, "--heads", "2")
    assert "--heads 3, not 2" in called.line
    assert contents(done) == before


def test_a_base_and_texts_can_be_added_later(refusalscope: Caller, done: Path, tmp_path: Path):
    base = save_tiny(tmp_path / "base", seed=4)
    search = (done / "mechanism" / "suffix_search.json").read_bytes()
    called = refusalscope("mechanism", done, *QUICK, "--base", base, "--text", "hello you")
    assert called.status == 0, called
    records = read_mechanism(done)
    assert records.base is not None
    assert records.base.base == str(base)
    assert records.projections is not None
    given = records.projections.texts[-1]
    assert (given.label, given.is_harmful) == ("given 1", None)
    assert (done / "mechanism" / "suffix_search.json").read_bytes() == search
    assert refusalscope("mechanism", done, *QUICK).status == 0
    assert read_mechanism(done) == records


def test_runs_of_other_models_can_be_compared_later(
    refusalscope: Caller, given: Path, done: Path, tmp_path: Path
):
    other = finish_run(given, save_tiny(tmp_path / "tiny-4", seed=4), tmp_path / "other")
    words = ("--beside", done, "--beside", other)
    assert refusalscope("mechanism", done, *QUICK, *words).status == 0
    records = read_mechanism(done)
    assert records.between is not None
    assert records.geometry is not None
    itself, found = records.between.others
    assert itself.directions == pytest.approx(1.0)
    assert itself.between_layers == records.geometry.between_layers
    ours, theirs = (load_direction(folder) for folder in (done, other))
    assert (found.model, found.position, found.layer) == ("tiny-4", theirs.position, theirs.layer)
    expected = torch.cosine_similarity(ours.vector, theirs.vector, dim=0).item()
    assert found.directions == pytest.approx(expected, abs=1e-5)
    assert ours.layer is not None
    assert theirs.layer is not None
    assert found.between_layers[ours.layer][theirs.layer] == pytest.approx(expected, abs=1e-5)
    assert abs(expected) < 0.9
    assert "Candidates of this run and of tiny-4" in (done / REPORT).read_text("utf-8")


def test_a_run_that_cannot_be_compared_is_refused(
    refusalscope: Caller, done: Path, finished: Path, tmp_path: Path
):
    before = contents(done)
    own = Path(shutil.copytree(finished, tmp_path / "other"))
    assert (
        "none is not a run folder"
        in refusalscope("mechanism", done, *QUICK, "--beside", tmp_path / "none").line
    )
    save_file({"direction": torch.ones(64)}, own / DIRECTION_TENSOR)
    called = refusalscope("mechanism", done, *QUICK, "--beside", own)
    assert "shape (64,); expected a tensor 'direction' of shape (32,)" in called.line
    (own / DIRECTION).unlink()
    called = refusalscope("mechanism", done, *QUICK, "--beside", own)
    assert "has no direction to compare with" in called.line
    assert contents(done) == before


def test_a_given_suffix_is_not_searched_for(refusalscope: Caller, run_folder: Path, tmp_path: Path):
    (tmp_path / "suffix.txt").write_text(" oh well\n", "utf-8")
    called = refusalscope("mechanism", run_folder, *QUICK, "--suffix", tmp_path / "suffix.txt")
    assert called.status == 0, called
    records = read_mechanism(run_folder)
    assert records.search is None
    assert records.suffixes is not None
    assert records.suffixes.suffix.text == " oh well"
    assert records.suffixes.suffix.n_read_differently == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--suffix", "nowhere.txt"), "--suffix 'nowhere.txt' is no file"),
        (("--heads", "0"), "'--heads': Input should be greater than or equal to 1"),
        (("--search-steps", "0"), "'--search-steps': Input should be greater than or equal to 1"),
        (("--base", "nowhere"), "there is no model at 'nowhere'"),
    ],
)
def test_bad_options_are_one_line_and_write_nothing(
    refusalscope: Caller, run_folder: Path, words: tuple[str, ...], message: str
):
    before = contents(run_folder)
    assert message in refusalscope("mechanism", run_folder, *words).line
    assert contents(run_folder) == before


def test_a_base_of_another_shape_is_refused(refusalscope: Caller, done: Path, tmp_path: Path):
    tiny_weights(hidden_size=64).save_pretrained(tmp_path / "wide")
    called = refusalscope("mechanism", done, *QUICK, "--base", tmp_path / "wide")
    assert "give the base model that the chat model was made from" in called.line


def test_what_is_no_finished_run_is_refused(refusalscope: Caller, run_folder: Path, tmp_path: Path):
    assert "is not a run folder" in refusalscope("mechanism", tmp_path / "none").line
    manifest = json.loads((run_folder / "run.json").read_text("utf-8"))
    del manifest["stages"]["report"]
    (run_folder / "run.json").write_text(json.dumps(manifest), "utf-8")
    assert "finish it with: refusalscope report" in refusalscope("mechanism", run_folder).line
    assert not (run_folder / "mechanism").exists()
