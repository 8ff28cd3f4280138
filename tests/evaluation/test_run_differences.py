"""Two runs compared: paired by instruction, and what cannot be compared is said."""

from pathlib import Path
from typing import Any

import pytest

from refusalscope.evaluation.run_differences import (
    loss_differences,
    rate_differences,
    task_comparisons,
)
from refusalscope.results.coherence_records import TaskCoherence, TaskScore
from refusalscope.results.records import (
    Completion,
    DatasetLoss,
    Judgement,
    Judgements,
    Losses,
    ModelFacts,
    RunManifest,
)
from refusalscope.results.run_records import RunRecords


def run(instructions: list[str], flags: list[bool | None], **judge: Any) -> RunRecords:
    """A run of one condition with one judge."""
    rows = tuple(
        Completion(
            index=at,
            dataset="harmful",
            condition="baseline",
            instruction=text,
            category=None,
            completion=f"answer {flag}",
            n_tokens=2,
            ended=True,
        )
        for at, (text, flag) in enumerate(zip(instructions, flags, strict=True))
    )
    named: dict[str, Any] = {"judge": "phrases", "version": "1", "measures": "refusal", **judge}
    verdicts = tuple(
        Judgement(
            index=row.index,
            dataset=row.dataset,
            condition=row.condition,
            judge=named["judge"],
            version=named["version"],
            flag=flag,
            raw="",
        )
        for row, flag in zip(rows, flags, strict=True)
    )
    return records(completions=rows, judgements=(Judgements(**named, rows=verdicts),))


def records(**parts: Any) -> RunRecords:
    """A run that holds nothing but these parts."""
    facts: dict[str, Any] = dict.fromkeys(ModelFacts.model_fields)
    facts |= {"name": "m", "source": "m", "n_layers": 2, "post_instruction_tokens": ()}
    facts |= {"template": "model", "is_organism": False}
    manifest = RunManifest(
        options={}, versions={}, model=ModelFacts(**facts), inputs=(), stages={}, command=""
    )
    values: dict[str, Any] = dict.fromkeys(RunRecords.__slots__)
    values |= {"folder": Path("runs/x"), "manifest": manifest, "completions": (), "judgements": ()}
    values["unknown"] = ()
    return RunRecords(**{**values, **parts})


def test_pairs_are_made_by_instruction_whatever_the_order():
    first = run(["a", "b", "c", "d"], [True, True, True, False])
    second = run(["d", "c", "b", "a"], [False, False, True, True])
    (row,), left_out = rate_differences(first, second)
    assert left_out == []
    assert row.is_paired
    assert (row.first.rate, row.second.rate, row.difference) == (0.75, 0.5, -0.25)
    assert (row.n_same, row.n_left_out) == (3, 0)


def test_an_instruction_that_stands_twice_is_paired_one_by_one():
    first = run(["a", "a"], [True, False])
    (row,), _ = rate_differences(first, run(["a", "a"], [True, False]))
    assert (row.is_paired, row.first.n, row.n_same) == (True, 2, 2)


def test_other_instructions_are_compared_as_independent_samples():
    (row,), _ = rate_differences(run(["a", "b"], [True, True]), run(["a", "x"], [False, False]))
    assert (row.is_paired, row.n_same, row.difference) == (False, None, -1.0)


def test_pairs_without_a_verdict_are_left_out_and_counted():
    (row,), _ = rate_differences(run(["a", "b"], [True, None]), run(["a", "b"], [True, False]))
    assert (row.first.n, row.second.n, row.n_left_out) == (1, 1, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"judge": "guard"}, ["phrases: only the first", "guard: only the second"]),
        ({"version": "2"}, ["phrases: not the same version"]),
        ({"model": "another"}, ["phrases: not the same version or model"]),
    ],
)
def test_judges_that_are_not_the_same_are_named_and_not_compared(
    change: dict[str, str], words: list[str]
):
    rows, left_out = rate_differences(run(["a"], [True]), run(["a"], [True], **change))
    assert rows == []
    assert len(left_out) == len(words)
    assert all(word in line for word, line in zip(words, left_out, strict=True))


def test_losses_that_both_have_stand_beside_each_other():
    def with_losses(**losses: float) -> RunRecords:
        rows = tuple(
            DatasetLoss(dataset=name, condition="baseline", loss=loss, n_tokens=9, n_texts=1)
            for name, loss in losses.items()
        )
        return records(losses=Losses(rows=rows))

    (row,) = loss_differences(with_losses(pile=2.0, alpaca=1.0), with_losses(pile=2.5, other=3.0))
    assert (row.dataset, row.first, row.second) == ("pile", 2.0, 2.5)


def test_tasks_are_paired_by_document():
    def task(values: tuple[float, ...], documents: tuple[str, ...] = ("a", "b", "c")) -> Any:
        mean = sum(values) / len(values)
        score = TaskScore(condition="ablation", mean=mean, harness_value=mean, values=values)
        return TaskCoherence(
            task="arc",
            shots=0,
            metric="acc",
            filter="none",
            limit=None,
            chat_template=False,
            edited=None,
            harness_version="0",
            documents=documents,
            scores=(score,),
            differences=(),
        )

    (row,) = task_comparisons([task((1.0, 1.0, 0.0))], [task((1.0, 0.0, 0.0))])
    assert row.difference == pytest.approx(-1 / 3)
    assert (row.n, row.verdict) == (3, "no difference shown")
    assert task_comparisons([task((1.0,), ("a",))], [task((1.0,), ("b",))]) == []
