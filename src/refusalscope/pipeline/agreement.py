"""How far the judges of a run agree; no model is needed for that, and none is imported."""

from pathlib import Path

from refusalscope.errors import InputError
from refusalscope.evaluation.agreement import agreement_of
from refusalscope.pipeline.folder_lock import writes_to_run
from refusalscope.pipeline.refresh import refresh_page
from refusalscope.results.evaluation_records import Agreement
from refusalscope.results.files import write_file
from refusalscope.results.run_records import AGREEMENT, read_run


@writes_to_run
def compare_judges(folder: Path) -> Agreement:
    """Agreement of all judges of a run; also written to evaluation/agreement.json.

    Raises:
        InputError: the run has fewer than two judges.
    """
    judgements = read_run(folder).judgements
    if len(judgements) < 2:
        raise InputError(
            f"{folder} has {len(judgements)} judges; agreement needs two: judge it with "
            f"refusalscope evaluate judge {folder} --judge NAME"
        )
    agreement = agreement_of(judgements)
    write_file(folder / AGREEMENT, agreement.to_json())
    refresh_page(folder)
    return agreement
