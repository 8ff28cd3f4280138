"""The proof of an edit that was written into weights, from its edit.json."""

from dataclasses import dataclass

from refusalscope.report.table import Table
from refusalscope.report.wording import NOT_MEASURED, percent, position_name, thousands
from refusalscope.results.edit_records import EditedTensor, EditRecord

Facts = tuple[tuple[str, str], ...]
MAX_TENSORS = 40
"""Rows of the table: those with the most left."""

_VERDICTS = {
    "complete": "No tensor that writes to the residual stream can write along the direction.",
    "partial as asked": "Some tensors can still write along the direction, as much as was asked.",
    "incomplete": "More is left along the direction than was asked for.",
    "altered": "The files are not those that were written.",
    None: "What is left along the direction was not measured.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EditSection:
    """What the section shows."""

    lead: str
    recorded: str
    """When and by what it was measured: not for the page."""
    facts: Facts
    proof: Facts
    tensors: Table


def edit_section(record: EditRecord | None) -> EditSection | None:
    """The section; None where no edit was named."""
    if record is None:
        return None
    return EditSection(
        lead=_lead(record),
        recorded=_recorded(record),
        facts=_facts(record),
        proof=_proof(record),
        tensors=_tensors(record),
    )


def _lead(record: EditRecord) -> str:
    if record.operation == "add":
        return (
            "The direction was written into a bias of the weights; no code runs beside the model."
        )
    return f"The direction was taken out of the weights themselves. {_VERDICTS[record.verdict]}"


def _recorded(record: EditRecord) -> str:
    """The record has no date, so that the same edit gives the same record."""
    own = record.versions.get("refusalscope", "of a version that it does not name")
    torch = record.versions.get("torch")
    return (
        f"All of this was recorded when the edit was made, by refusalscope {own}"
        + ("" if torch is None else f" with torch {torch}")
        + ". Nothing was measured anew for this page, and the checkpoint may have changed since: "
        "refusalscope weights verify, on its folder, measures it again."
    )


def _facts(record: EditRecord) -> Facts:
    where = [
        f"{one.origin}"
        + ("" if one.position is None else f", position {position_name(one.position)}")
        + ("" if one.layer is None else f", layer {one.layer}")
        for one in record.directions
    ]
    layers = (
        "all, and the embedding" if record.layers is None else "{} to {}".format(*record.layers)
    )
    facts = [
        ("operation", record.operation),
        ("checkpoint", record.model.source),
        ("revision", record.model.revision or "none"),
        ("architecture", record.model.architecture),
        ("direction", "; ".join(where)),
    ]
    if record.addition is not None:
        facts += [
            ("added at layer", str(record.addition.layer)),
            ("coefficient", f"{record.addition.coefficient:g}"),
            ("tensor", record.addition.tensor),
        ]
    else:
        facts += [
            ("strength", "1" if record.strength is None else f"{record.strength:g}"),
            ("layers", layers),
            ("unembedding untied", record.untied or "no"),
        ]
    return tuple(facts)


def _proof(record: EditRecord) -> Facts:
    n_writing = NOT_MEASURED if record.n_writing is None else thousands(record.n_writing)
    facts = [
        ("verdict", record.verdict or NOT_MEASURED),
        ("tensors that write", f"{n_writing} of {thousands(record.n_tensors)}"),
        ("coverage", NOT_MEASURED if record.coverage is None else percent(record.coverage)),
        ("largest leftover", _small(record.leftover)),
    ]
    if record.proof is not None:
        proof = record.proof
        facts += [
            ("miniature: writers found", f"{proof.n_writers}, fed by {proof.n_tensors} tensors"),
            ("miniature: coverage", percent(proof.coverage)),
            (
                "miniature: left in the stream",
                f"{_small(proof.leftover)}, tolerance {_small(proof.tolerance)}",
            ),
        ]
    return tuple(facts)


def _small(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.2g}"


def _tensors(record: EditRecord) -> Table:
    worst = sorted(record.tensors, key=_left, reverse=True)[:MAX_TENSORS]
    more = len(record.tensors) - len(worst)
    return Table(
        title="What is left in each tensor",
        caption="Size of the part along the direction before, the share of it that is left, and "
        "the share that rounding to the tensor's number format can leave; the most first."
        + (f" {thousands(more)} tensors with less are in edit.json." if more else ""),
        header=("Tensor", "Before", "Left", "Rounding can leave"),
        rows=tuple(
            (one.name, f"{one.before:.4g}", _small(one.leftover), _small(one.rounding))
            for one in worst
        ),
    )


def _left(tensor: EditedTensor) -> float:
    return -1.0 if tensor.leftover is None else tensor.leftover
