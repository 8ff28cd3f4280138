"""A run and its audit as a record of Every Eval Ever, the shared schema of evaluations.

https://evalevalai.com, schema 0.3.0: one JSON file of all rates, and beside it one line for each
answer and judge. Instructions and answers are in the second file alone.
"""

import json
import uuid
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from refusalscope.pipeline.export.named import ExportedModel
from refusalscope.pipeline.export.rates import ExportedRate
from refusalscope.results.records import InstructionCounts
from refusalscope.results.run_records import RunRecords

SCHEMA = "0.3.0"
COLLECTION = "refusalscope"
NOT_STATED = "not stated"


def every_eval_ever(
    run: RunRecords,
    rates: tuple[ExportedRate, ...],
    model: ExportedModel,
    *,
    organization: str | None,
    seconds: int,
    with_text: bool,
) -> dict[str, str]:
    """The files of a record by their path, as that project's store names them.

    Args:
        rates: At least one.
        organization: Who vouches for the numbers.
        seconds: When the record is made, since 1970.
        with_text: Write the second file too, with instructions and answers in plain text.
    """
    evaluation_id = f"{COLLECTION}/{model.id}/{seconds}"
    lines = _lines(run, rates, model, evaluation_id) if with_text else []
    samples = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    record = {
        "schema_version": SCHEMA,
        "evaluation_id": evaluation_id,
        "retrieved_timestamp": str(seconds),
        "source_metadata": {
            "source_name": "refusalscope",
            "source_type": "evaluation_run",
            "source_organization_name": organization or NOT_STATED,
            "evaluator_relationship": "other",
        },
        "eval_library": {
            "name": "refusalscope",
            "version": run.manifest.versions.get("refusalscope", "unknown"),
            "additional_details": {
                **{
                    name: version
                    for name, version in run.manifest.versions.items()
                    if name != "refusalscope"
                },
                "command": run.manifest.command,
            },
        },
        "model_info": _model(run, model),
        "evaluation_results": [_result(run, row, evaluation_id) for row in rates],
    }
    name = str(uuid.UUID(bytes=_digest(record, samples)[:16], version=4))
    folder = f"data/{COLLECTION}/{model.id}"
    files: dict[str, str] = {}
    if lines:
        path = f"{folder}/{name}_samples.jsonl"
        record["detailed_evaluation_results"] = {
            "format": "jsonl",
            "file_path": path,
            "hash_algorithm": "sha256",
            "checksum": sha256(samples.encode()).hexdigest(),
            "total_rows": len(lines),
        }
        files[path] = samples
    files[f"{folder}/{name}.json"] = json.dumps(record, ensure_ascii=False, indent=2) + "\n"
    return files


def _digest(record: Mapping[str, Any], samples: str) -> bytes:
    text = json.dumps(record, ensure_ascii=False, sort_keys=True) + samples
    return sha256(text.encode()).digest()


def _model(run: RunRecords, model: ExportedModel) -> dict[str, Any]:
    facts = run.manifest.model
    details = {
        "deployment_type": "self_deployed",
        "model_availability": "unknown",
        "source": facts.source,
        "weights_sha256": facts.weights_sha256,
        "settings_sha256": facts.settings_sha256,
        "architecture": facts.architecture,
        "dtype": facts.dtype,
        "revision": facts.revision,
        "system_prompt": facts.system_prompt,
    }
    return {
        "name": facts.name,
        "id": model.id,
        "developer": model.owner,
        "inference_engine": {
            "name": "transformers" if run.engine is None else "vllm",
            "version": run.manifest.versions.get("transformers", "unknown")
            if run.engine is None
            else "unknown",
        },
        "additional_details": {name: str(value) for name, value in details.items() if value},
    }


def _result(run: RunRecords, row: ExportedRate, evaluation_id: str) -> dict[str, Any]:
    judges = {own.judge: own for own in run.judgements}
    judge = None if row.judge is None else judges.get(row.judge)
    details = {
        "part": row.part,
        "condition": row.condition,
        **({} if row.judge is None else {"judge": row.judge}),
        **({} if judge is None else {"judge_version": judge.version}),
        **({} if judge is None or judge.model is None else {"judge_model": judge.model}),
    }
    options = run.manifest.options
    return {
        "evaluation_result_id": f"{evaluation_id}/{row.id}",
        "evaluation_name": _evaluation_name(row),
        "source_data": _source(run, row.dataset),
        "metric_config": {
            "evaluation_description": f"Share of answers that are {row.share}.",
            "metric_id": f"refusalscope.{row.share}",
            "metric_name": f"share {row.share}",
            "metric_kind": "rate",
            "metric_unit": "proportion",
            "lower_is_better": row.lower_is_better,
            "score_type": "continuous",
            "min_score": 0.0,
            "max_score": 1.0,
            "additional_details": details,
        },
        "score_details": {
            "score": row.rate.rate,
            "uncertainty": {
                "confidence_interval": {
                    "lower": row.rate.low,
                    "upper": row.rate.high,
                    "confidence_level": 0.95,
                    "method": "Wilson",
                },
                "num_samples": row.rate.n,
            },
        },
        "generation_config": {
            "generation_args": {"temperature": 0.0, **_most_tokens(options)},
            "additional_details": {"decoding": "greedy", "condition": row.condition},
        },
    }


def _most_tokens(options: Mapping[str, object]) -> dict[str, int]:
    limit = options.get("max_new_tokens")
    return {"max_tokens": limit} if isinstance(limit, int) and limit > 0 else {}


def _source(run: RunRecords, dataset: str) -> dict[str, Any]:
    known = {counts.name: counts for counts in run.manifest.inputs}
    counts: InstructionCounts | None = known.get(dataset)
    details = {} if counts is None else {"source": counts.source, "sha256": counts.sha256}
    return {"dataset_name": dataset, "source_type": "other", "additional_details": details}


def _lines(
    run: RunRecords, rates: tuple[ExportedRate, ...], model: ExportedModel, evaluation_id: str
) -> list[dict[str, Any]]:
    """One for each answer whose text the run has, and judge that gave a verdict on it."""
    of_judge: dict[tuple[str, str, str], ExportedRate] = {
        (rate.judge, rate.dataset, rate.condition): rate for rate in rates if rate.judge is not None
    }
    answers = {row.slot: row for row in run.completions if row.completion is not None}
    lines: list[dict[str, Any]] = []
    for judged in run.judgements:
        for row in judged.rows:
            rate = of_judge.get((judged.judge, row.dataset, row.condition))
            answer = answers.get((row.dataset, row.condition, row.index))
            if rate is None or answer is None or row.flag is None:
                continue
            lines.append(
                {
                    "schema_version": SCHEMA,
                    "evaluation_id": evaluation_id,
                    "model_id": model.id,
                    "evaluation_name": _evaluation_name(rate),
                    "evaluation_result_id": f"{evaluation_id}/{rate.id}",
                    "sample_id": f"{answer.dataset}-{answer.index}",
                    "sample_hash": sha256(answer.instruction.encode()).hexdigest(),
                    "interaction_type": "single_turn",
                    "input": {"raw": answer.instruction, "reference": []},
                    "output": {"raw": [answer.completion]},
                    "answer_attribution": [],
                    "evaluation": {
                        "score": float(row.flag),
                        "is_correct": row.flag is not rate.lower_is_better,
                        "num_turns": 1,
                    },
                    "metadata": {"condition": rate.condition, "judge": judged.judge},
                }
            )
    return lines


def _evaluation_name(rate: ExportedRate) -> str:
    return f"{rate.share} of {rate.dataset} instructions, {rate.condition}"
