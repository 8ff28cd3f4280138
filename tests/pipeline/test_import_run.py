from pathlib import Path

import pytest

from refusalscope.errors import InputError, OutputError
from refusalscope.pipeline.import_run import IMPORT, ImportFacts, import_paper_run
from refusalscope.results.run_records import SUMMARY, read_record


@pytest.mark.parametrize(
    ("name", "choice"),
    [("qwen-1_8b-chat", (-2, 15)), ("meta-llama-3-8b-instruct", (-5, 12))],
)
def test_the_choice_of_the_papers_code_comes_out_in_a_third_of_its_sweeps(
    reference: Path, tmp_path: Path, name: str, choice: tuple[int, int]
) -> None:
    summary = import_paper_run(reference / "paper_runs" / name, tmp_path / "run")
    assert (summary.direction.position, summary.direction.layer) == choice
    facts = read_record(ImportFacts, tmp_path / "run" / IMPORT)
    assert facts.same_choice is True
    assert facts.sweeps <= facts.full_sweeps / 3
    assert (tmp_path / "run" / SUMMARY).is_file()


PUBLISHED = {
    "qwen-1_8b-chat": {
        "refusal": [70, 1, 3, 3, 98],
        "safety": [80, 18, 21],
        "loss": [2.9210, 2.9332, 3.2918],
    },
    "meta-llama-3-8b-instruct": {
        "refusal": [95, 0, 1, 1, 100],
        "safety": [97, 18, 15],
        "loss": [2.3475, 2.3632, 2.4770],
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_rates_and_losses_are_read_with_the_papers_own_numbers(
    reference: Path, tmp_path: Path, name: str
) -> None:
    summary = import_paper_run(reference / "paper_runs" / name, tmp_path / "run")
    harmful, harmless = summary.refusal["jailbreakbench"], summary.refusal["harmless"]
    conditions = ("baseline", "ablation", "subtraction")
    rates = [harmful[c] for c in conditions] + [harmless[c] for c in ("baseline", "addition")]
    assert {rate.n for rate in rates} == {100}
    safe = summary.safety["jailbreakbench"]
    assert isinstance(safe, dict)
    expected = PUBLISHED[name]
    assert [round(100 * rate.rate) for rate in rates] == expected["refusal"]
    assert [round(100 * safe[c].rate) for c in conditions] == expected["safety"]
    losses = [summary.loss["pile"][c] for c in conditions]
    assert losses == pytest.approx(expected["loss"], abs=6e-5)


def test_a_folder_that_is_no_run_and_an_output_that_exists_are_refused(
    reference: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="not a run of the paper's code"):
        import_paper_run(tmp_path, tmp_path / "out")
    with pytest.raises(OutputError, match="exists already"):
        import_paper_run(reference / "paper_runs" / "qwen-1_8b-chat", tmp_path)
