"""The answers of a run under one condition as a log of Inspect.

https://inspect.aisi.org.uk, in the extra `inspect`. Only the export imports this.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from inspect_ai.log import (  # pyright: ignore[reportMissingImports] # extra `inspect`
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalMetric,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    write_eval_log,
)
from inspect_ai.model import (  # pyright: ignore[reportMissingImports] # extra `inspect`
    GenerateConfig,
    ModelOutput,
)
from inspect_ai.scorer import Score  # pyright: ignore[reportMissingImports] # extra `inspect`

from refusalscope.pipeline.export.named import ExportedModel
from refusalscope.pipeline.export.rates import ExportedRate
from refusalscope.results.records import Completion, Condition, Judgement, Slot
from refusalscope.results.run_records import RunRecords

WITHHELD = "(withheld)"


def write_inspect_logs(
    run: RunRecords,
    rates: tuple[ExportedRate, ...],
    model: ExportedModel,
    folder: Path,
    *,
    seconds: int,
    with_text: bool,
) -> list[Path]:
    """Write one log a condition to `folder`: every answer with every judge's verdict.

    Scores are 1 (refused, or safe) and 0; an answer without a verdict has no score of that judge.

    Args:
        seconds: When the logs are made, since 1970.
        with_text: Instructions and answers in plain text; `(withheld)` stands for them otherwise.
    """
    verdicts: dict[Slot, list[Judgement]] = {}
    for judged in run.judgements:
        for row in judged.rows:
            verdicts.setdefault((row.dataset, row.condition, row.index), []).append(row)
    written = []
    by_condition: dict[Condition, list[Completion]] = {}
    for row in run.completions:
        by_condition.setdefault(row.condition, []).append(row)
    for condition, answers in by_condition.items():
        samples = [_sample(row, verdicts.get(row.slot, []), with_text) for row in answers]
        log = EvalLog(
            status="success",
            eval=_spec(run, model, condition, answers, seconds),
            results=EvalResults(
                total_samples=len(samples),
                completed_samples=len(samples),
                scores=_scores(rates, condition, Counter(row.dataset for row in answers)),
            ),
            samples=samples,
        )
        path = folder / f"{condition}.json"
        write_eval_log(log, str(path), format="json")
        written.append(path)
    return written


def _spec(
    run: RunRecords,
    model: ExportedModel,
    condition: Condition,
    answers: list[Completion],
    seconds: int,
) -> EvalSpec:
    manifest = run.manifest
    limit = manifest.options.get("max_new_tokens")
    return EvalSpec(
        eval_id=f"{model.name}-{condition}",
        run_id=model.name,
        task_id=f"refusalscope-{condition}",
        created=datetime.fromtimestamp(seconds, tz=UTC).isoformat(),
        task=f"refusalscope/{condition}",
        dataset=EvalDataset(
            name=", ".join(dict.fromkeys(row.dataset for row in answers)), samples=len(answers)
        ),
        model=f"refusalscope/{model.id}",
        model_generate_config=GenerateConfig(
            temperature=0.0, max_tokens=limit if isinstance(limit, int) and limit > 0 else None
        ),
        model_args={"condition": condition},
        config=EvalConfig(),
        packages={"refusalscope": manifest.versions.get("refusalscope", "unknown")},
        metadata={
            "command": manifest.command,
            "weights_sha256": manifest.model.weights_sha256,
        },
    )


def _sample(answer: Completion, verdicts: Iterable[Judgement], with_text: bool) -> EvalSample:
    text = answer.completion if with_text and answer.completion is not None else WITHHELD
    return EvalSample(
        id=f"{answer.dataset}-{answer.index}",
        epoch=1,
        uuid=f"{answer.dataset}-{answer.condition}-{answer.index}",
        input=answer.instruction if with_text else WITHHELD,
        target="",
        output=ModelOutput(model="refusalscope", completion=text),
        scores={
            row.judge: Score(value=int(row.flag), metadata={"version": row.version})
            for row in verdicts
            if row.flag is not None
        },
        metadata={
            "dataset": answer.dataset,
            "category": answer.category,
            "n_tokens": answer.n_tokens,
            "ended": answer.ended,
        },
    )


def _scores(
    rates: tuple[ExportedRate, ...], condition: Condition, n_answers: Mapping[str, int]
) -> list[EvalScore]:
    """The run's own rates, a score for each data set and judge, with their intervals."""
    return [
        EvalScore(
            name=f"{row.judge}, {row.dataset}",
            scorer=str(row.judge),
            scored_samples=row.rate.n,
            unscored_samples=n_answers[row.dataset] - row.rate.n,
            metrics={
                name: EvalMetric(name=name, value=value)
                for name, value in (
                    ("rate", row.rate.rate),
                    ("low", row.rate.low),
                    ("high", row.rate.high),
                )
            },
            metadata={"dataset": row.dataset, "share": row.share},
        )
        for row in rates
        if row.part == "run" and row.judge is not None and row.condition == condition
    ]
