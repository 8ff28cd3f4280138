"""A finished run's interventions beside LoRA fine-tuning (paper appendix I.2, Table 10).

The adapter and what the fine-tuned model answers are kept in `evaluation/finetune`.
"""

from pathlib import Path
from typing import Literal

from refusalscope.data.answer_pairs import read_pairs
from refusalscope.data.instruction import Instruction
from refusalscope.data.overlap import require_disjoint
from refusalscope.errors import RunFolderError
from refusalscope.evaluation.judges import rates_by_condition
from refusalscope.evaluation.rule_judges import rules_for
from refusalscope.measures.loss.measure import losses_as_it_is
from refusalscope.pipeline.adapters import (
    LANGUAGE,
    TuningSettings,
    adapted,
    language_pairs,
    lora_module,
    trained_adapter,
)
from refusalscope.pipeline.complete_aside import DATASET, complete_aside, judge_aside
from refusalscope.pipeline.evaluate import judge_run, make_judge
from refusalscope.pipeline.evaluation_options import FinetuneOptions, LossOptions
from refusalscope.pipeline.measure import measure as measured
from refusalscope.pipeline.session import Session
from refusalscope.results.finetune_records import (
    FinetuneComparison,
    LoraTraining,
    Variant,
    VariantNumbers,
)
from refusalscope.results.loss_records import TextName
from refusalscope.results.measures import measure_named
from refusalscope.results.records import Judgements, Measure, Rate
from refusalscope.results.run_records import FINETUNE, read_run

_FOLDER = FINETUNE.removesuffix(".json")
_ADAPTER = "adapter"
_BASE_VARIANTS: tuple[Literal["baseline", "ablation", "subtraction"], ...] = (
    "baseline",
    "ablation",
    "subtraction",
)


def measure(session: Session, options: FinetuneOptions, _item: str) -> FinetuneComparison:
    """Train an adapter on pairs, and compare baseline, ablation, subtraction and it.

    An adapter that is there is not trained again. The record is written to
    evaluation/finetune.json; judges and texts of the run itself go where they always go. The
    session's model is without the adapter again when this returns.

    Raises:
        MissingExtraError: PEFT is not installed.
        RunFolderError: no run, or one without a direction or completions.
        InputError: no pairs, or they are not what is needed.
        InstructionsError: a pair's instruction is one of the test instructions.
        OutputError: an adapter is there already, of other pairs or settings.
    """
    folder = session.folder
    lora_module("evaluate finetune")
    if not read_run(folder).judgements:
        raise RunFolderError(
            f"{folder} has no judgements yet; write them with: refusalscope judge {folder}"
        )
    given = None if options.pairs is None else read_pairs(Path(options.pairs))
    if options.judges.judges:
        judge_run(session, options.judges)
    losses = _base_losses(session, options.texts)
    run = session.run
    pairs = language_pairs(run, options.n_pairs) if given is None else given
    asked = [Instruction(pair.instruction, None) for pair in pairs]
    require_disjoint({"pairs": asked, DATASET: run.sets[DATASET].instructions})
    own = folder / _FOLDER
    training = trained_adapter(
        run,
        pairs,
        own / _ADAPTER,
        TuningSettings(
            learning_rate=options.learning_rate,
            epochs=options.epochs,
            batch_size=options.batch_size,
        ),
        source=options.pairs or LANGUAGE,
    )
    with adapted(run.chat, own / _ADAPTER):
        rows = complete_aside(run, run.chat, own, {"baseline": None}, name="lora")
        if not options.texts.is_empty:
            losses["lora"] = losses_as_it_is(run, options.texts)
    judges = [
        make_judge(folder, name, options.judges, key=session.server_key)
        for name in options.judges.judges
    ]
    judged = [
        one
        for judge in (*rules_for(run.language), *judges)
        for one in judge_aside(own, judge, rows)
    ]
    return _compare(folder, training, judged, losses)


def _base_losses(session: Session, options: LossOptions) -> dict[Variant, dict[TextName, float]]:
    """The losses of the texts asked for, without the adapter."""
    losses: dict[Variant, dict[TextName, float]] = {}
    if options.is_empty:
        return losses
    for record in measured(session, measure_named("loss"), options):
        for row in record.rows:
            if row.condition in _BASE_VARIANTS:
                losses.setdefault(row.condition, {})[record.text] = row.loss
    return losses


def _compare(
    folder: Path,
    training: LoraTraining,
    judged: list[Judgements],
    losses: dict[Variant, dict[TextName, float]],
) -> FinetuneComparison:
    """The rates of every judge of the fine-tuned model, and those of the run by the same judges."""
    measures: dict[str, Measure] = {one.judge: one.measures for one in judged}
    rates: dict[Variant, dict[str, Rate]] = {
        variant: {
            one.judge: rate
            for one in read_run(folder).judgements
            if one.judge in measures
            and (rate := rates_by_condition(one).get(DATASET, {}).get(variant)) is not None
        }
        for variant in _BASE_VARIANTS
    }
    rates["lora"] = {
        one.judge: rate
        for one in judged
        if (rate := rates_by_condition(one).get(DATASET, {}).get("baseline")) is not None
    }
    return FinetuneComparison(
        dataset=DATASET,
        training=training,
        judges=measures,
        rows=tuple(
            VariantNumbers(variant=variant, rates=own, losses=losses.get(variant, {}))
            for variant, own in rates.items()
        ),
    )
