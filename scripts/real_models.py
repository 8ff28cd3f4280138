"""docs/real-models.md, from run folders.

    python scripts/real_models.py RUN... > docs/real-models.md

Every number is read from the runs; the words between them are here. What
`scripts/edited_answers.py RUN EDITED > RUN/edited_answers.json` found is shown where it lies there.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from refusalscope.report.choice import describe_choice, nearest_sentence
from refusalscope.results.audit_records import AUDIT, Audit
from refusalscope.results.evaluation_folder import read_evaluation
from refusalscope.results.measures import measures
from refusalscope.results.records import Rate, Summary
from refusalscope.results.run_records import RunRecords, read_if_there, read_run

_HEAD = """# Real models

What runs on models that people use have shown, written by `python scripts/real_models.py RUN...`
from their folders. Organisms show that the code finds what is there; these show what is there. The
models are small and their weights were dequantized from four bits; of larger ones nothing is known
here, nor yet which heads and tokens carry the direction in these. How far single channels own the
difference in means in two of them, layer by layer: [Loud channels](loud-channels.md).

"""
EDITED_ANSWERS = "edited_answers.json"
_ROWS = (
    ("harmful", ("baseline", "ablation", "subtraction", "random_ablation", "random_addition")),
    ("harmless", ("baseline", "ablation", "addition", "random_ablation", "random_addition")),
)


def main() -> None:
    """Print the page."""
    folders = [Path(folder) for folder in sys.argv[1:]]
    print(_HEAD + "\n".join(line for folder in folders for line in _section(folder)))


def _section(folder: Path) -> Iterator[str]:
    run = read_run(folder)
    manifest, summary = run.manifest, run.summary
    model = manifest.model
    audit = read_if_there(Audit, folder / AUDIT)
    how = "" if audit is None else ", `audit --quick`" if _is_quick(run) else ", `audit`"
    yield f"## {model.name}{how}\n"
    yield (
        f"{model.architecture}, {model.n_layers} layers, width {model.d_model}, "
        f"{model.dtype}; weights `{(model.weights_sha256 or '')[:12]}`. Instructions: "
        + ", ".join(f"{row.n_sampled} {row.name}" for row in manifest.inputs)
        + ".\n"
    )
    if summary is None:
        yield "The run is not finished.\n"
        return
    if audit is not None:
        yield "What the audit found:\n"
        for text in audit.findings:
            yield f"- {text}"
        yield ""
    yield from _choice(run)
    yield from _outcomes(summary)
    yield from _edited(folder)
    yield from _channels(run)
    yield from _measured(folder)
    yield from _cost(run)
    for warning in summary.warnings:
        yield f"- Warning: {warning}"
    yield ""


def _is_quick(run: RunRecords) -> bool:
    """Whether a run was made for a quick audit, which leaves out the side conditions."""
    left_out = run.manifest.options.get("without")
    return isinstance(left_out, list) and "side-conditions" in left_out


def _edited(folder: Path) -> Iterator[str]:
    path = folder / EDITED_ANSWERS
    if not path.is_file():
        return
    found = json.loads(path.read_text("utf-8"))
    yield (
        f"The direction written into the weights: {found['n_equal']} of {found['n']} greedy "
        f"answers of the edited checkpoint in plain transformers are those of the hooks"
        + (
            f"; where the others part, the two tokens are "
            f"{max(map(abs, found['gaps'])):.1e} nats apart at most."
            if found["gaps"]
            else "."
        )
        + "\n"
    )


def _channels(run: RunRecords) -> Iterator[str]:
    """Layer by layer how far one channel owns the difference, where it does anywhere."""
    rows = run.extraction.channels if run.extraction else ()
    owned = sum(row.owns for row in rows)
    if not rows:
        return
    most = max(row.share for row in rows)
    yield (
        f"One channel is more than half of the difference in means at {owned} of {len(rows)} "
        f"places; the largest share is {most:.2f}.\n"
    )
    if not owned:
        return
    yield (
        "| layer | places above one half | largest share | channel | position "
        "| times the median | loud channels | spread |\n|---|---|---|---|---|---|---|---|"
    )
    for layer in sorted({row.layer for row in rows}):
        own = [row for row in rows if row.layer == layer]
        row = max(own, key=lambda row: row.share)
        yield (
            f"| {layer} | {sum(one.owns for one in own)} of {len(own)} | {row.share:.2f} "
            f"| {row.channel} | {row.position} | {_or_none(row.ratio, 0)} | {row.n_loud} "
            f"| {_or_none(row.spread, 1)} |"
        )
    yield ""


def _or_none(value: float | None, digits: int) -> str:
    return "none" if value is None else f"{value:.{digits}f}"


def _measured(folder: Path) -> Iterator[str]:
    """What the measures that were measured say in lines."""
    found = read_evaluation(folder).measured
    for measure in measures():
        records = found.get(measure.name)
        if not records or measure.lines is None:
            continue
        yield f"`measure {measure.name}`:\n"
        for line in measure.lines(records):
            yield f"- {line}"
        yield ""


def _cost(run: RunRecords) -> Iterator[str]:
    """Passes; times, and even their shares, are those of what else the machine did."""
    if run.selection is not None:
        yield (
            f"Selection ran {run.selection.sweeps:.0f} passes over a validation set; the full grid "
            f"has {run.selection.full_sweeps}."
        )
        yield ""


def _choice(run: RunRecords) -> Iterator[str]:
    chosen = run.summary.direction if run.summary else None
    if chosen is not None:
        bypass, induce, kl = (_number(v) for v in (chosen.bypass, chosen.induce, chosen.kl))
        yield (
            f"Position {chosen.position}, layer {chosen.layer} of {chosen.n_layers}: bypass "
            f"{bypass}, induce {induce}, KL {kl}.\n"
        )
    nearest = nearest_sentence(run.selection)
    if nearest is not None:
        yield f"{nearest}\n"
    choice = describe_choice(run)
    if choice is None:
        return
    yield " ".join(choice.sentences) + "\n"
    if choice.labels:
        yield "| set | prompts | answer refuses | metric above 0 | both |\n|---|---|---|---|---|"
        for row in choice.labels:
            cells = (row.n, row.n_answers, row.n_metric, row.n_both)
            texts = ("not measured" if one is None else str(one) for one in cells)
            yield f"| {row.name} | {' | '.join(texts)} |"
        yield ""
    if choice.tokens:
        yield "| refusal tokens | balanced error | at log-odds | error at 0 |\n|---|---|---|---|"
        for token in choice.tokens:
            yield f"| {token.tokens} | {token.error} | {token.threshold} | {token.error_at_zero} |"
        yield ""


def _outcomes(summary: Summary) -> Iterator[str]:
    yield "| instructions | condition | refused | complied | degenerate | n |"
    yield "|---|---|---|---|---|---|"
    for dataset, conditions in _ROWS:
        for condition in conditions:
            rate = summary.refusal.get(dataset, {}).get(condition)
            shares = summary.outcomes.get(dataset, {}).get(condition)
            if rate is None or shares is None:
                continue
            yield (
                f"| {dataset} | {condition.replace('_', ' ')} | {_rate(rate)} | "
                f"{shares.complied:.2f} | {shares.degenerate:.2f} | {shares.n} |"
            )
    yield ""


def _rate(rate: Rate) -> str:
    return f"{rate.rate:.2f} ({rate.low:.2f} to {rate.high:.2f})"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
