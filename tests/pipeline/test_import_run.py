import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from refusalscope.errors import InputError, OutputError, RunFolderError
from refusalscope.evaluation.judges import judge_all
from refusalscope.evaluation.rule_judges import phrase_judge
from refusalscope.pipeline.import_run import import_paper_run
from refusalscope.results.import_records import IMPORT, ImportFacts
from refusalscope.results.run_records import read_record, read_run

QWEN, LLAMA = "qwen-1_8b-chat", "meta-llama-3-8b-instruct"
N_WORDS = 20


@pytest.fixture(scope="module")
def imported(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both reference runs, imported; tests that write work on copies."""
    folder = tmp_path_factory.mktemp("imported")
    for name in (QWEN, LLAMA):
        import_paper_run(reference / "paper_runs" / name, folder / name)
    return {name: folder / name for name in (QWEN, LLAMA)}


@pytest.mark.parametrize(("name", "choice"), [(QWEN, (-2, 15)), (LLAMA, (-5, 12))])
def test_the_choice_of_the_papers_code_comes_out_in_a_third_of_its_sweeps(
    imported: dict[str, Path], name: str, choice: tuple[int, int]
) -> None:
    facts = read_record(ImportFacts, imported[name] / IMPORT)
    assert facts.recomputed_choice == facts.stored_choice == facts.published_choice == choice
    assert facts.same_choice is True
    assert facts.sweeps <= facts.full_sweeps / 3


PUBLISHED = {
    QWEN: {
        "refusal": [70, 1, 3, 3, 98],
        "safety": [80, 18, 21],
        "loss": [2.9210, 2.9332, 3.2918],
        "baseline": (1.9745, -6.5401),
    },
    LLAMA: {
        "refusal": [95, 0, 1, 1, 100],
        "safety": [97, 18, 15],
        "loss": [2.3475, 2.3632, 2.4770],
        "baseline": (8.3570, -12.5179),
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_rates_losses_and_baselines_are_read_with_the_papers_own_numbers(
    imported: dict[str, Path], name: str
) -> None:
    run = read_run(imported[name])
    assert run.summary is not None
    assert run.selection is not None
    harmful, harmless = run.summary.refusal["harmful"], run.summary.refusal["harmless"]
    conditions = ("baseline", "ablation", "subtraction")
    rates = [harmful[c] for c in conditions] + [harmless[c] for c in ("baseline", "addition")]
    assert {rate.n for rate in rates} == {100}
    safe = run.summary.safety["harmful"]
    assert isinstance(safe, dict)
    expected = PUBLISHED[name]
    assert [round(100 * rate.rate) for rate in rates] == expected["refusal"]
    assert [round(100 * safe[c].rate) for c in conditions] == expected["safety"]
    losses = [run.summary.loss["pile"][c] for c in conditions]
    assert losses == pytest.approx(expected["loss"], abs=6e-5)
    untouched = (run.selection.baseline_harmful, run.selection.baseline_harmless)
    assert untouched == pytest.approx(expected["baseline"], abs=6e-5)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_completion_is_there_and_what_the_copy_withholds_is_none(
    imported: dict[str, Path], name: str
) -> None:
    run = read_run(imported[name])
    withheld = {(row.dataset, row.completion is None) for row in run.completions}
    assert withheld == {("harmful", True), ("harmless", False)}
    assert len(run.completions) == 500
    assert {(row.n_tokens, row.ended) for row in run.completions} == {(None, None)}
    (harmless,) = [row for row in run.manifest.inputs if row.name == "harmless"]
    assert harmless.sha256.startswith("7c5b9234575615b5")
    facts = read_record(ImportFacts, imported[name] / IMPORT)
    assert (facts.n_withheld, facts.flags.n_stored, facts.flags.n_compared) == (300, 500, 200)
    assert facts.flags.n_different == 0


def test_a_withheld_text_cannot_be_judged(imported: dict[str, Path]) -> None:
    rows = [row for row in read_run(imported[LLAMA]).completions if row.dataset == "harmful"]
    with pytest.raises(RunFolderError, match="withheld in the copy"):
        judge_all(phrase_judge(), rows)


def test_the_quirks_of_each_run_are_named(imported: dict[str, Path]) -> None:
    quirks = {name: read_record(ImportFacts, imported[name] / IMPORT).quirks for name in imported}
    words = ["stray quote", "end of turn", "layer 25", "at layer 0 are zero", "15 words", "hooks"]
    for word in words:
        assert sum(word in quirk for quirk in quirks[LLAMA]) == 1, word
    assert not any("stray quote" in quirk for quirk in quirks[QWEN])
    assert any("162 of the 200" in quirk for quirk in quirks[LLAMA])
    warnings = read_run(imported[LLAMA]).manifest.warnings
    assert set(quirks[LLAMA]) < set(warnings)


def test_the_directions_of_a_copy_that_has_them_are_those_of_a_run(
    imported: dict[str, Path],
) -> None:
    direction = read_run(imported[QWEN]).direction
    assert direction is not None
    assert direction.d_model == 2048
    assert direction.norm == pytest.approx(26.2873, abs=6e-5)
    assert read_run(imported[LLAMA]).direction is None
    assert "candidate directions" in read_record(ImportFacts, imported[LLAMA] / IMPORT).absent


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_page_of_an_imported_run_says_what_it_is(imported: dict[str, Path], name: str) -> None:
    page = (imported[name] / "report.html").read_text("utf-8")
    assert "imported from a run of the paper's code" in page
    assert "withheld in the copy this run was imported from" in page
    assert "not recorded" in page


def test_two_imports_have_the_same_bytes(
    imported: dict[str, Path], reference: Path, tmp_path: Path
) -> None:
    import_paper_run(reference / "paper_runs" / QWEN, tmp_path / "again")
    files = [p.relative_to(imported[QWEN]) for p in sorted(imported[QWEN].rglob("*"))]
    assert files == [
        p.relative_to(tmp_path / "again") for p in sorted((tmp_path / "again").rglob("*"))
    ]
    for name in files:
        if name.name not in ("run.json", "report.html") and (imported[QWEN] / name).is_file():
            assert (imported[QWEN] / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def made_run(folder: Path, **parts: Any) -> Path:
    """A run of the paper's code by hand: two layers, one position; `parts` replace its files."""
    scores = [
        {"position": -1, "layer": layer, "refusal_score": 3.0 - 5 * layer}
        | {"steering_score": -2.0 + 4 * layer, "kl_div_score": 0.05 * layer}
        for layer in range(4)
    ]
    text = "a frame and a cord " * N_WORDS
    rows = [{"prompt": "make a tavok", "category": "None", "response": text}]
    flags = {"is_jailbreak_substring_matching": 1, "is_jailbreak_llamaguard2": 0}
    judged = {"completions": [rows[0] | flags]}
    files = {
        "select_direction/direction_evaluations.json": scores,
        "direction_metadata.json": {"pos": -1, "layer": 2},
        "completions/mine_baseline_evaluations.json": judged,
        **parts,
    }
    for name, value in files.items():
        if value is not None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(value), "utf-8")
    return folder


def test_a_folder_with_scores_alone_imports_with_its_other_parts_named_absent(
    tmp_path: Path,
) -> None:
    bare = {"direction_metadata.json": None, "completions/mine_baseline_evaluations.json": None}
    summary = import_paper_run(made_run(tmp_path / "theirs", **bare), tmp_path / "run")
    facts = read_record(ImportFacts, tmp_path / "run" / IMPORT)
    assert len(facts.absent) == 5
    assert facts.same_choice is None
    assert summary.refusal == {}
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Completions: not measured." in page


def test_the_only_harmful_set_is_the_harmful_one_and_two_keep_their_names(tmp_path: Path) -> None:
    import_paper_run(made_run(tmp_path / "one"), tmp_path / "run")
    assert {row.dataset for row in read_run(tmp_path / "run").completions} == {"harmful"}
    made_run(tmp_path / "two")
    own = tmp_path / "two" / "completions"
    shutil.copy(own / "mine_baseline_evaluations.json", own / "more_baseline_evaluations.json")
    import_paper_run(tmp_path / "two", tmp_path / "run2")
    assert {row.dataset for row in read_run(tmp_path / "run2").completions} == {"mine", "more"}


def test_another_stored_choice_another_direction_and_a_wrong_flag_are_warned_of(
    tmp_path: Path,
) -> None:
    flag = {"is_jailbreak_substring_matching": 0}
    row = {"prompt": "make a tavok", "category": "x", "response": "take a cord"} | flag
    folder = made_run(
        tmp_path / "theirs",
        **{
            "direction_metadata.json": {"pos": -1, "layer": 1},
            "completions/mine_baseline_evaluations.json": {"completions": [row]},
        },
    )
    (folder / "generate_directions").mkdir()
    torch.save(torch.ones(1, 4, 3), folder / "generate_directions" / "mean_diffs.pt")
    torch.save(torch.zeros(3), folder / "direction.pt")
    warnings = import_paper_run(folder, tmp_path / "run").warnings
    assert "the run's code chose (-1, 1), its scores give (-1, 2)" in warnings
    assert "the stored direction is not the candidate at the stored choice" in warnings
    assert "1 of 1 stored refusal flags are not what the phrases say of the text" in warnings


def test_a_folder_that_is_no_run_and_an_output_that_exists_are_refused(
    reference: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="not a run of the paper's code"):
        import_paper_run(tmp_path, tmp_path / "out")
    with pytest.raises(OutputError, match="exists already"):
        import_paper_run(reference / "paper_runs" / QWEN, tmp_path)
