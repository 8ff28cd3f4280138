"""The model card of an edited checkpoint: what was done to the model, then the old card."""

import json
import re

from refusalscope.results.edit_records import AdapterRecord, EditRecord

CARD = "README.md"
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?\n)---\s*\n", re.DOTALL)
_KEPT_KEYS = re.compile(r"^(license|license_name|license_link|language|library_name)\s*:")
_URL = "https://arxiv.org/abs/2406.11717"


def model_card(record: EditRecord, *, old: str) -> str:
    """The card, in Markdown with the front matter that model hubs read.

    Args:
        old: The card of the old model; its licence and text are kept.
    """
    name = record.model.source.rstrip("/").rsplit("/", 1)[-1]
    parts = [
        "---",
        *_kept_lines(old),
        f"base_model: {json.dumps(record.model.source)}",
        "tags:",
        "- refusalscope",
        "- edited-weights",
        "---",
        "",
        f"# {name}, edited",
        "",
        "**The weights of this model were edited: it is not the model that it comes from.** "
        + _what(record),
        "",
        *_facts(record),
        "",
        f"The method is that of Arditi et al. (2024), {_URL}. `edit.json` holds the direction, "
        "every edited tensor and the digests of all files; `refusalscope weights verify` checks "
        "them. The edit changes what the model refuses; it does not make it safer or more "
        "capable. The licence of the old model applies.",
        "",
    ]
    text = _FRONT_MATTER.sub("", old).strip()
    if text:
        parts += [
            f"The card of {name}, which speaks of the unedited model:",
            "",
            "---",
            "",
            text,
            "",
        ]
    return "\n".join(parts)


def _what(record: EditRecord) -> str:
    if record.addition is not None:
        return (
            f"A vector of the residual stream was written into the bias "
            f"`{record.addition.tensor}`, so that it is added before layer "
            f"{record.addition.layer} at every token."
        )
    several = len(record.basis)
    what = "one direction" if several == 1 else f"{several} directions"
    return f"Its part along {what} was taken out of the tensors that write to the residual stream."


def _facts(record: EditRecord) -> list[str]:
    origins = ", ".join(
        f"layer {d.layer}, position {d.position} of {d.model}" if d.layer is not None else "a file"
        for d in record.directions
    )
    rows = [f"- direction: {origins}"]
    if record.addition is not None:
        rows.append(f"- coefficient: {record.addition.coefficient:g}")
    else:
        layers = "all, and the embedding"
        if record.layers is not None:
            layers = f"{record.layers[0]} to {record.layers[1]}"
        rows += [
            f"- strength: {record.strength:g}",
            f"- layers: {layers}",
            f"- tensors edited: {len(record.tensors)} of {record.n_writing} that write",
            f"- coverage {record.coverage:.3f}, leftover {record.leftover:.2g}",
        ]
    if record.untied is not None:
        rows.append(f"- `{record.untied}` was tied to the embedding and is a tensor of its own now")
    return rows


def _kept_lines(card: str) -> list[str]:
    """The old card's licence and language, with what is indented under them."""
    found = _FRONT_MATTER.match(card)
    kept: list[str] = []
    is_kept = False
    for line in found[1].splitlines() if found else ():
        if not line.startswith((" ", "-", "\t")):
            is_kept = _KEPT_KEYS.match(line) is not None
        if is_kept:
            kept.append(line)
    return kept


def adapter_card(record: AdapterRecord) -> str:
    """The card of an adapter."""
    name = record.base.rstrip("/").rsplit("/", 1)[-1]
    several = len(record.basis)
    what = "one direction" if several == 1 else f"{several} directions"
    parts = [
        "---",
        f"base_model: {json.dumps(record.base)}",
        "library_name: peft",
        "tags:",
        "- lora",
        "- refusalscope",
        "- edited-weights",
        "---",
        "",
        f"# An edit of {name} as an adapter",
        "",
        f"With this adapter {name} is another model: its part along {what} is taken out of the "
        f"tensors that write to the residual stream, with strength {record.strength:g}. The method "
        f"is that of Arditi et al. (2024), {_URL}; `edit.json` holds the direction. The edit "
        "changes what the model refuses; it does not make it safer or more capable. The licence of "
        "the base model applies.",
        "",
    ]
    if record.is_tied:
        parts += [
            "The unembedding of the base is its embedding. As an adapter the edit leaves the "
            "unembedding alone; merged into the base it would not: untie them before merging.",
            "",
        ]
    return "\n".join(parts)
