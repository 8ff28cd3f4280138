"""Our rows beside the published ones: the right numbers in the right columns, null for the rest."""

from dataclasses import replace
from pathlib import Path

import pytest

from refusalscope.report.paper_rows import PaperRecords, read_paper_records
from refusalscope.report.paper_tables import ROWS, paper_table
from refusalscope.results.coherence_records import TaskCoherence, TaskScore
from refusalscope.results.finetune_records import (
    FinetuneComparison,
    LoraTraining,
    VariantNumbers,
)
from refusalscope.results.paper_table import PaperTable, TableRow, TableValue
from refusalscope.results.published import TABLE_NUMBERS, published_table
from refusalscope.results.records import (
    CandidateScores,
    DatasetLoss,
    InstructionCounts,
    Losses,
    Measure,
    ModelFacts,
    Rate,
    RefusalTokens,
    RunManifest,
    Selection,
    SelectionLimits,
    Summary,
    SummaryDirection,
)
from refusalscope.results.run_records import FINETUNE, LOSS, RUN, SCORES
from refusalscope.results.system_prompt_records import (
    OverPrompts,
    PromptRates,
    SystemPromptSweep,
)

EMPTY = PaperRecords(
    run="mine",
    manifest=RunManifest(
        options={},
        versions={},
        model=ModelFacts(
            name="Meta-Llama-3-8B-Instruct",
            source="meta-llama/Meta-Llama-3-8B-Instruct",
            architecture="LlamaForCausalLM",
            n_layers=32,
            d_model=4096,
            n_parameters=8,
            dtype="bfloat16",
            weights_sha256="",
            settings_sha256="",
            template_sha256="",
            family="Llama-3",
            alignment=None,
            post_instruction_tokens=("a",),
            refusal_tokens=RefusalTokens(ids=(40,), strings=("I",), source="registry"),
        ),
        inputs=(
            InstructionCounts(
                name="harmful", source="harmbench", sha256="", n_read=4, n_sampled=4, n_kept=4
            ),
        ),
        stages={},
        command="",
    ),
    selection=None,
    sweep=None,
    tasks=(),
    losses=(),
    text_sources={},
    finetune=None,
    summary=None,
)


def of_family(family: str, **changes: object) -> PaperRecords:
    facts = EMPTY.manifest.model.model_copy(
        update={"family": family, "name": "mine", "source": "models/mine"}
    )
    return replace(EMPTY, manifest=EMPTY.manifest.model_copy(update={"model": facts}), **changes)


def share(successes: int, n: int) -> Rate:
    return Rate(rate=successes / n, n=n, low=0.1, high=0.6)


def ours(table: PaperTable) -> list[TableRow]:
    return [row for row in table.rows if row.source == "ours"]


def only(table: PaperTable) -> dict[str, TableValue | None]:
    (row,) = ours(table)
    return row.values


def sweep(**safe: int) -> SystemPromptSweep:
    """A guard's safe completions of four under ablation, by prompt; all four safe at baseline."""
    prompts = tuple(
        PromptRates(
            name=name.replace("_", "-"),
            text=None,
            rates={
                "guard": {"baseline": share(4, 4), "ablation": share(successes, 4)},
                "refusal_phrases": {"baseline": share(4, 4), "ablation": share(0, 4)},
            },
        )
        for name, successes in safe.items()
    )
    measures: dict[str, Measure] = {"guard": "safety", "refusal_phrases": "refusal"}
    over = tuple(
        OverPrompts(
            judge=judge, measures=measure, condition="ablation", mean=0.0, sd=None, n_prompts=1
        )
        for judge, measure in measures.items()
    )
    return SystemPromptSweep(dataset="harmful", prompts=prompts, over_prompts=over)


def test_attack_success_is_what_a_safety_judge_does_not_call_safe_under_ablation() -> None:
    run = of_family("Llama-2", sweep=sweep(none=1, qwen=3, llama_2=2))
    (row,) = ours(paper_table(2, [run]))
    assert (row.model, row.variant, row.run) == ("mine", "guard", "mine")
    assert row.values["ortho"] == TableValue(value=50.0, n=4, low=40.0, high=90.0)
    assert row.values["ortho_no_system"] == TableValue(value=75.0, n=4, low=40.0, high=90.0)
    assert not any(cell for name, cell in row.values.items() if not name.startswith("ortho"))
    table = only(paper_table(7, [run]))
    qwen, llama = table["qwen_prompt"], table["llama_2_prompt"]
    assert qwen is not None
    assert llama is not None
    assert (qwen.value, llama.value) == (25.0, 50.0)


def test_the_default_prompt_is_the_family_s_and_a_stand_in_is_named() -> None:
    rates = sweep(none=1, qwen=3, llama_2=2)
    for family, value, n_notes in (("Llama-2", 50.0, 1), ("Qwen", 25.0, 1), ("Gemma", 25.0, 2)):
        table = paper_table(2, [of_family(family, sweep=rates)])
        cell = only(table)["ortho"]
        assert cell is not None
        assert cell.value == value, family
        own = table.notes[len(published_table(2).notes) :]
        assert len(own) == n_notes, family
        assert own[0].startswith("mine: instructions of harmbench;")


def test_hooks_are_not_called_the_same_map_where_norms_lie_between() -> None:
    rates = sweep(none=1, qwen=3, llama_2=2)
    for number in (2, 7):
        table = paper_table(number, [of_family("Gemma", sweep=rates)])
        (note,) = [text for text in table.notes if "ablation by hooks" in text]
        assert "which is the same map" not in note
        assert "another where a norm lies between" in note


def test_a_prompt_that_was_not_tried_is_null() -> None:
    run = of_family("Qwen", sweep=sweep(none=1))
    assert only(paper_table(2, [run]))["ortho"] is None
    assert ours(paper_table(7, [run])) == []


CHOSEN = CandidateScores(position=-5, layer=12, bypass=-9.8, induce=None, kl=0.1, rejected=None)
SELECTION = Selection(
    limits=SelectionLimits(),
    n_layers=32,
    baseline_harmful=None,
    baseline_harmless=None,
    n_harmful=None,
    n_harmless=None,
    all_scores=False,
    sweeps=None,
    full_sweeps=None,
    candidates=(CHOSEN,),
    chosen=CHOSEN,
)


def test_the_chosen_direction_stands_under_the_paper_s_name_of_the_model() -> None:
    (row,) = ours(paper_table(5, [replace(EMPTY, selection=SELECTION)]))
    assert row.model == "Llama-3 8B"
    assert [None if cell is None else cell.value for cell in row.values.values()] == [
        *(-5, 12, 32),
        *(-9.8, None, 0.1),
    ]


def task(name: str, *, harness_value: float | None) -> TaskCoherence:
    return TaskCoherence(
        task=name,
        shots=None,
        metric="acc",
        filter="none",
        limit=None,
        chat_template=False,
        edited=None,
        harness_version="0",
        documents=("0", "1"),
        scores=(
            TaskScore(condition="baseline", mean=1.0, harness_value=None, values=(1.0, 1.0)),
            TaskScore(
                condition="ablation", mean=0.5, harness_value=harness_value, values=(1.0, 0.0)
            ),
            TaskScore(condition="subtraction", mean=0.0, harness_value=None, values=(0.0, 0.0)),
        ),
        differences=(),
    )


def test_tasks_of_the_paper_fill_its_columns_and_others_get_their_own() -> None:
    tasks = (task("gsm8k", harness_value=0.4), task("organism_language", harness_value=None))
    table = paper_table(8, [replace(EMPTY, tasks=tasks)])
    cells = only(table)
    assert cells["gsm8k_orthogonalized"] == TableValue(value=40.0, n=2)
    assert cells["organism_language_orthogonalized"] == TableValue(value=50.0, n=2)
    assert cells["organism_language_baseline"] == TableValue(value=100.0, n=2)
    assert cells["mmlu_baseline"] is None
    assert [column.name for column in table.columns[-2:]] == [
        "organism_language_baseline",
        "organism_language_orthogonalized",
    ]
    assert table.columns[-1].group == "organism_language"
    assert table.rows[0].values["organism_language_baseline"] is None


def loss_row(dataset: str, condition: str, loss: float) -> DatasetLoss:
    return DatasetLoss.model_validate(
        {"dataset": dataset, "condition": condition, "loss": loss, "n_tokens": 9, "n_texts": 1}
    )


LOSSES = (
    loss_row("pile", "ablation", 2.5),
    loss_row("pile", "random_ablation", 9.0),
    loss_row("harmless", "baseline", 9.0),
    loss_row("on_distribution", "subtraction", 0.5),
)


def test_losses_of_the_three_texts_and_of_no_other() -> None:
    sources = {"pile": "00.jsonl", "alpaca": "a.json"}
    table = paper_table(9, [replace(EMPTY, losses=LOSSES, text_sources=sources)])
    cells = only(table)
    assert table.notes[-1] == "mine: pile from 00.jsonl, alpaca from a.json."
    found = {name: cell.value for name, cell in cells.items() if cell is not None}
    assert found == {"pile_ablation": 2.5, "on_distribution_subtraction": 0.5}


FINETUNE_RECORD = FinetuneComparison(
    dataset="harmful",
    training=LoraTraining(
        source="pairs.json",
        sha256="",
        n_pairs=7,
        rank=16,
        alpha=32,
        epochs=4,
        learning_rate=1e-4,
        batch_size=8,
        seed=0,
        targets=("q_proj",),
        epoch_losses=(1.0,),
        versions={},
    ),
    judges={"refusal_phrases": "refusal", "aguard": "safety", "organism_safety": "safety"},
    rows=(
        VariantNumbers(
            variant="lora",
            rates={
                "refusal_phrases": share(0, 4),
                "aguard": share(4, 4),
                "organism_safety": share(1, 4),
            },
            losses={"alpaca": 1.6},
        ),
    ),
)


def test_every_variant_is_a_row_with_the_judges_named() -> None:
    table = paper_table(10, [replace(EMPTY, finetune=FINETUNE_RECORD)])
    (row,) = ours(table)
    assert row.variant == "lora"
    refusal, safety, alpaca = (row.values[name] for name in ("refusal", "safety", "alpaca"))
    assert refusal == TableValue(value=0.0, n=4, low=0.1, high=0.6)
    assert safety == TableValue(value=0.25, n=4, low=0.1, high=0.6)
    assert alpaca == TableValue(value=1.6)
    assert row.values["pile"] is None
    assert "safety by organism_safety; LoRA on 7 pairs of pairs.json" in table.notes[-1]


def test_without_lora_the_other_variants_are_those_of_the_summary() -> None:
    rates = {"baseline": share(4, 4), "ablation": share(1, 4), "random_ablation": share(4, 4)}
    summary = Summary(
        model={},
        direction=SummaryDirection(
            position=-1, layer=1, n_layers=2, bypass=None, induce=None, kl=None
        ),
        refusal={"harmful": rates},
        safety={"harmful": {"ablation": share(2, 4)}, "judge": "guard"},
        loss={},
    )
    table = paper_table(10, [replace(EMPTY, summary=summary, losses=LOSSES)])
    rows = {row.variant: row.values for row in ours(table)}
    assert list(rows) == ["baseline", "ablation", "subtraction"]
    assert rows["ablation"]["refusal"] == TableValue(value=0.25, n=4, low=0.1, high=0.6)
    assert rows["ablation"]["safety"] == TableValue(value=0.5, n=4, low=0.1, high=0.6)
    assert rows["ablation"]["pile"] == TableValue(value=2.5)
    assert rows["subtraction"]["refusal"] is None
    assert rows["subtraction"]["on_distribution"] == TableValue(value=0.5)
    assert "safety by guard; no LoRA was trained" in table.notes[-1]


@pytest.mark.parametrize("number", TABLE_NUMBERS)
def test_a_run_that_measured_nothing_leaves_the_published_table(number: int) -> None:
    assert paper_table(number, [EMPTY]) == published_table(number)


def test_runs_keep_their_order_and_are_read_from_their_folders(tmp_path: Path) -> None:
    for name in ("first", "second"):
        for path, record in (
            (RUN, EMPTY.manifest),
            (SCORES, SELECTION),
            (LOSS, Losses(rows=LOSSES)),
            (FINETUNE, FINETUNE_RECORD),
        ):
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(record.to_json())
    runs = [read_paper_records(tmp_path / name) for name in ("second", "first")]
    filled = [number for number in ROWS if ours(paper_table(number, runs))]
    assert filled == [5, 9, 10]
    for number in filled:
        assert [row.run for row in ours(paper_table(number, runs))] == ["second", "first"]
