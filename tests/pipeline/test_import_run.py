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


def test_a_folder_that_is_no_run_and_an_output_that_exists_are_refused(
    reference: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="not a run of the paper's code"):
        import_paper_run(tmp_path, tmp_path / "out")
    with pytest.raises(OutputError, match="exists already"):
        import_paper_run(reference / "paper_runs" / "qwen-1_8b-chat", tmp_path)
