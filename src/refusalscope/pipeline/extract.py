"""The stage that extracts candidate directions, and decides what counts as a refusal."""

from safetensors.torch import save

from refusalscope.errors import SelectionError
from refusalscope.pipeline.candidates import extract_candidates
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.label import refused_by_answers
from refusalscope.results.files import write_file
from refusalscope.results.run_records import EXTRACTION, MEAN_DIFFERENCES, NO_DIRECTION


def extract(run: RunContext) -> None:
    """Mean activations of both training sets, their difference, and what counts as a refusal.

    Where the model refuses or answers too little for that, the reason is written instead.

    Raises:
        SelectionError: it does, and the run is strict.
        NoRefusalTokenError: no refusal token can be proposed, in a run without the filter.
    """
    out = run.folder.path
    (out / NO_DIRECTION).unlink(missing_ok=True)
    found = extract_candidates(run.study, refused_by_answers(run))
    if found.refusal_tokens is not None and found.refusal_tokens.source == "proposed":
        run.folder.set_refusal_tokens(found.refusal_tokens)
    if found.lacking is None:
        write_file(out / MEAN_DIFFERENCES, save(found.tensors))
    elif run.options.strict:
        raise SelectionError(found.lacking.text)
    else:
        write_file(out / NO_DIRECTION, found.lacking.to_json())
    write_file(out / EXTRACTION, found.facts.to_json())
