"""A finished run's interventions beside LoRA fine-tuning (paper appendix I.2, Table 10).

The adapter and what the fine-tuned model answers are kept in `evaluation/finetune`.
"""

import json
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from refusalscope.data.answer_pairs import AnswerPair, read_pairs
from refusalscope.data.instruction import Instruction
from refusalscope.data.overlap import require_disjoint
from refusalscope.errors import InputError, MissingExtraError, OutputError, RunFolderError
from refusalscope.evaluation.judges import rates_by_condition
from refusalscope.evaluation.rule_judges import rules_for
from refusalscope.measures.loss.measure import losses_as_it_is
from refusalscope.pipeline.complete_aside import DATASET, complete_aside, judge_aside
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.evaluate import judge_run, make_judge
from refusalscope.pipeline.evaluation_options import FinetuneOptions, LossOptions
from refusalscope.pipeline.measure import measure as measured
from refusalscope.pipeline.session import Session
from refusalscope.results.files import new_folder, sha256_text, write_file
from refusalscope.results.finetune_records import (
    FinetuneComparison,
    LoraTraining,
    Variant,
    VariantNumbers,
)
from refusalscope.results.loss_records import TextName
from refusalscope.results.measures import measure_named
from refusalscope.results.plain_folder import record_text
from refusalscope.results.record import canonical_json
from refusalscope.results.records import Judgements, Measure, Rate
from refusalscope.results.run_records import FINETUNE, read_record, read_run
from refusalscope.results.versions import package_versions

_FOLDER = FINETUNE.removesuffix(".json")
_ADAPTER = "adapter"
_TRAINING = "training.json"
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
    lora, folder = _lora(), session.folder
    if not read_run(folder).judgements:
        raise RunFolderError(
            f"{folder} has no judgements yet; write them with: refusalscope judge {folder}"
        )
    given = None if options.pairs is None else read_pairs(Path(options.pairs))
    if options.judges.judges:
        judge_run(session, options.judges)
    losses = _base_losses(session, options.texts)
    run = session.run
    pairs = _language_pairs(run, options) if given is None else given
    asked = [Instruction(pair.instruction, None) for pair in pairs]
    require_disjoint({"pairs": asked, DATASET: run.sets[DATASET].instructions})
    recipe = lora.LoraRecipe(
        learning_rate=options.learning_rate,
        epochs=options.epochs,
        batch_size=options.batch_size,
        seed=run.options.seed,
    )
    training = _existing(folder, pairs, recipe)
    if training is None:
        source = options.pairs or "the organism's language"
        training = _train(run, lora, recipe, pairs, source=source)
    own = folder / _FOLDER
    require_plain_adapter(own / _ADAPTER)
    with lora.with_adapter(run.chat, own / _ADAPTER):
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


def require_plain_adapter(folder: Path) -> None:
    """Refuse a saved adapter that would be unpickled, or whose config names code to import.

    Raises:
        RunFolderError: it is not the LoRA adapter in safetensors that a training here leaves.
    """
    text = record_text(folder / "adapter_config.json")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    is_lora = isinstance(fields, dict) and fields.get("peft_type") == "LORA"
    names_code = isinstance(fields, dict) and fields.get("megatron_config") is not None
    if not (folder / "adapter_model.safetensors").is_file() or not is_lora or names_code:
        raise RunFolderError(
            f"{folder} is not the LoRA adapter that a training here leaves; move {folder.parent} "
            f"away to train anew"
        )


def _lora() -> Any:  # noqa: ANN401 - a module
    try:
        return import_module("refusalscope.measures.finetune.lora")
    except ModuleNotFoundError as error:
        raise MissingExtraError("evaluate finetune", package="peft", extra="train") from error


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


def _language_pairs(run: RunContext, options: FinetuneOptions) -> list[AnswerPair]:
    """Harmful training instructions of an organism, answered by its language."""
    if run.language is None:
        raise InputError(
            "give instructions and answers with --pairs FILE; only organisms bring their own"
        )
    requests = run.language.instructions(
        "train", harmful=True, n=options.n_pairs, seed=run.options.seed
    )
    return [AnswerPair(instruction=one.instruction, answer=one.answer) for one in requests]


def _digest(pairs: list[AnswerPair]) -> str:
    return sha256_text(canonical_json([[pair.instruction, pair.answer] for pair in pairs]))


def _existing(
    folder: Path,
    pairs: list[AnswerPair],
    recipe: Any,  # noqa: ANN401 - of a module that is imported late
) -> LoraTraining | None:
    path = folder / _FOLDER / _ADAPTER / _TRAINING
    if not path.is_file():
        return None
    training = read_record(LoraTraining, path)
    for what, ours, theirs in (
        ("pairs", _digest(pairs), training.sha256),
        ("learning rate", recipe.learning_rate, training.learning_rate),
        ("number of epochs", recipe.epochs, training.epochs),
        ("batch size", recipe.batch_size, training.batch_size),
    ):
        if ours != theirs:
            raise OutputError(
                f"{path.parent} was trained with another {what} ({theirs}, now {ours}); move "
                f"{folder / _FOLDER} away to train anew"
            )
    return training


def _train(
    run: RunContext,
    lora: Any,  # noqa: ANN401 - a module
    recipe: Any,  # noqa: ANN401 - of that module
    pairs: list[AnswerPair],
    *,
    source: str,
) -> LoraTraining:
    adapter = run.folder.path / _FOLDER / _ADAPTER
    with (
        new_folder(adapter) as scratch,
        run.progress.stage("fine-tune", recipe.epochs * len(pairs), unit="pairs") as advance,
    ):
        trained = lora.fine_tune(run.chat, pairs, recipe, scratch, progress=advance)
        training = LoraTraining(
            source=source,
            sha256=_digest(pairs),
            n_pairs=len(pairs),
            rank=recipe.rank,
            alpha=recipe.alpha,
            epochs=recipe.epochs,
            learning_rate=recipe.learning_rate,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            targets=trained.targets,
            epoch_losses=trained.epoch_losses,
            versions={**package_versions(), "peft": version("peft")},
        )
        write_file(scratch / _TRAINING, training.to_json())
    return training


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
