"""What several runs show together: by the paired difference of each, not by two intervals."""

from pathlib import Path

import pytest
from runs_on_disk import write_made_up_run

from refusalscope.metrics.intervals import rate_of
from refusalscope.report.several_page import render_several
from refusalscope.report.several_runs import read_several
from refusalscope.results.records import Condition, Judgement, Judgements, Summary

Flags = dict[Condition, list[bool]]


def _run(folder: Path, flags: Flags) -> Path:
    """A run whose verdicts on harmful instructions are these; nothing is known of harmless ones."""
    write_made_up_run(folder, name=folder.name, source=folder.name, n_layers=10)
    rows = tuple(
        Judgement(
            index=index,
            dataset="harmful",
            condition=condition,
            judge="refusal_phrases",
            version="1",
            flag=flag,
            raw="",
        )
        for condition, own in flags.items()
        for index, flag in enumerate(own)
    )
    judged = Judgements(judge="refusal_phrases", version="1", measures="refusal", rows=rows)
    (folder / "evaluation" / "refusal_phrases.json").write_text(judged.to_json(), "utf-8")
    for condition, own in flags.items():
        completions = folder / "completions" / f"harmful.{condition}.jsonl"
        lines = completions.read_text("utf-8").splitlines(keepends=True)
        completions.write_text("".join(lines[: len(own)]), "utf-8")
    other = folder / "evaluation" / "llama_guard_2.json"
    whole = Judgements.from_json(other.read_text("utf-8"), source="llama_guard_2.json")
    rows = tuple(
        row
        for row in whole.rows
        if row.dataset != "harmful" or row.index < len(flags.get(row.condition, ()))
    )
    other.write_text(whole.model_copy(update={"rows": rows}).to_json(), "utf-8")
    path = folder / "summary.json"
    summary = Summary.from_json(path.read_text("utf-8"), source="summary.json")
    rates = {"harmful": {str(name): rate_of(own) for name, own in flags.items()}}
    path.write_text(summary.model_copy(update={"refusal": rates}).to_json(), "utf-8")
    return folder


def _flags(before: int, after: int, n: int) -> Flags:
    return {
        "baseline": [at < before for at in range(n)],
        "ablation": [at < after for at in range(n)],
    }


@pytest.mark.parametrize(("before", "after", "n"), [(12, 5, 20), (60, 47, 100)])
def test_a_run_whose_pairs_show_a_fall_is_counted(
    tmp_path: Path, before: int, after: int, n: int
) -> None:
    page = render_several(read_several([_run(tmp_path / "run", _flags(before, after, n))]))
    assert "lowers refusal of harmful instructions in 1 of 1 runs;" in page
    assert "do not overlap" not in page


def test_runs_that_show_nothing_and_runs_that_show_no_change_are_told_apart(tmp_path: Path) -> None:
    folders = [
        _run(tmp_path / name, flags)
        for name, flags in (
            ("fell", _flags(60, 47, 100)),
            ("few", _flags(20, 19, 20)),
            ("same", _flags(60, 60, 100)),
            ("rose", _flags(47, 60, 100)),
        )
    ]
    page = render_several(read_several(folders))
    assert (
        "in 1 of 4 runs (1 not shown, 1 shown to be absent, 1 the other way); adding it raises "
        "refusal of harmless ones in 0 of 0 runs (4 not measured)"
    ) in page


def test_each_run_names_the_judges_of_its_rates(tmp_path: Path) -> None:
    folder = _run(tmp_path / "run", _flags(60, 47, 100))
    page = render_several(read_several([folder]))
    assert "<bdi>safety by llama_guard_2</bdi>" in page
    path = folder / "summary.json"
    summary = Summary.from_json(path.read_text("utf-8"), source="summary.json")
    path.write_text(
        summary.model_copy(update={"refusal_judge": "refusal_phrases"}).to_json(), "utf-8"
    )
    page = render_several(read_several([folder]))
    assert "<bdi>refusal by refusal_phrases, safety by llama_guard_2</bdi>" in page
