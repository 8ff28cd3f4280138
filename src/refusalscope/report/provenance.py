"""Where the numbers come from: model, instructions, limits, versions, and how to repeat them."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from refusalscope.report.visible_text import token_label, vocabulary_label
from refusalscope.report.wording import NOT_MEASURED, NOT_RECORDED, number, position_name, thousands
from refusalscope.results.engine_records import EngineProof
from refusalscope.results.records import InstructionCounts, ModelFacts, Rule
from refusalscope.results.run_records import RunRecords

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Pairs of name and value, grouped as they are shown."""

    model: Facts
    direction: Facts
    limits: Facts
    options: Facts
    versions: Facts
    stages: Facts
    inputs: tuple[InstructionCounts, ...]
    refusal_tokens: tuple[tuple[int, str], ...]
    refusal_source: str
    post_instruction_tokens: tuple[tuple[int, str], ...]
    command: str


def describe_provenance(run: RunRecords) -> Provenance:
    """Gather what a reader needs to judge a run and to repeat it."""
    manifest = run.manifest
    model = manifest.model
    tokens, refusal = model.post_instruction_tokens, model.refusal_tokens
    counts = manifest.inputs + (run.extraction.counts if run.extraction else ())
    return Provenance(
        model=_model_facts(model),
        direction=_direction_facts(run),
        limits=_limit_facts(run),
        options=(
            *((name, _plain(value)) for name, value in manifest.options.items()),
            *_engine_facts(run.engine),
        ),
        versions=tuple(manifest.versions.items()),
        stages=tuple(manifest.stages.items()),
        inputs=tuple(dict.fromkeys(counts)),
        refusal_tokens=tuple(
            (token, token_label(text))
            for token, text in zip(
                refusal.ids if refusal else (), refusal.strings if refusal else (), strict=False
            )
        ),
        refusal_source=_SOURCES[refusal.source] if refusal else NOT_RECORDED,
        post_instruction_tokens=tuple(
            (at - len(tokens), vocabulary_label(token)) for at, token in enumerate(tokens)
        ),
        command=manifest.command,
    )


_CONTROL_MOVED = re.compile(r"control random_\w+ moved ")
"""How summaries of version 0.1 word what the page words from the same rates."""


def all_warnings(run: RunRecords, found: Iterable[str]) -> tuple[str, ...]:
    """Every warning of the run once: those of its numbers first, then those of its stages."""
    recorded = (
        record.warnings
        for record in (run.manifest, run.extraction, run.selection, run.summary)
        if record is not None
    )
    told = [text for group in recorded for text in group if not _CONTROL_MOVED.match(text)]
    return tuple(dict.fromkeys([*found, *told, *run.warnings]))


_SOURCES = {
    "given": "given by the user",
    "registry": "the paper's table for this family",
    "proposed": "proposed from the model's own first tokens",
    "organism": "recorded with the organism",
}


def _model_facts(model: ModelFacts) -> Facts:
    facts = [
        ("name", model.name),
        ("source", model.source),
        ("architecture", model.architecture or NOT_RECORDED),
        ("family", model.family or "unknown"),
        ("alignment", model.alignment or "unknown"),
        ("layers", str(model.n_layers)),
        ("d_model", _recorded(model.d_model)),
        ("parameters", NOT_RECORDED if not model.n_parameters else thousands(model.n_parameters)),
        ("dtype", model.dtype or NOT_RECORDED),
        ("revision", model.revision or "none"),
        ("weights sha256", model.weights_sha256 or NOT_RECORDED),
        ("config and tokenizer sha256", model.settings_sha256 or NOT_RECORDED),
        ("template sha256", model.template_sha256 or NOT_RECORDED),
        ("chat template", "the model's own" if model.template == "model" else "the paper's"),
        ("system prompt", "none" if model.system_prompt is None else model.system_prompt),
    ]
    if model.rendered is not None and model.rendered.answer_prefix:
        facts.append(("answer prefix", model.rendered.answer_prefix))
    if model.rendered is not None and model.rendered.day is not None:
        facts.append(("day that the template was told", model.rendered.day.isoformat()))
    if model.is_organism:
        facts.insert(
            1, ("kind", "an organism: a small model trained so that refusal can be studied")
        )
    return tuple(facts)


def _engine_facts(proof: EngineProof | None) -> Facts:
    """What was measured of another engine before it wrote completions, or some of them."""
    if proof is None:
        return ()
    n_tokens = sum(row.n_tokens for row in proof.rows)
    largest = max((row.largest for row in proof.rows), default=0.0)
    where = ", edits in its weights" if proof.by == "weights" else ""
    return (
        (
            f"completions by {proof.engine} {proof.version}{where}",
            f"log-probabilities of {n_tokens} tokens of probe texts under "
            f"{len(proof.rows)} conditions at most {largest:.1g} nats from those of transformers",
        ),
    )


def _direction_facts(run: RunRecords) -> Facts:
    direction = run.direction
    if direction is None:
        return (("direction", NOT_MEASURED),)
    return (
        ("position", position_name(direction.position)),
        ("layer", f"{direction.layer} of {direction.n_layers}, counted from 0"),
        ("norm", number(direction.norm)),
        ("bypass", number(direction.bypass)),
        ("induce", number(direction.induce)),
        ("KL", number(direction.kl)),
        ("mean projection, harmful", number(direction.harmful_projection)),
        ("mean projection, harmless", number(direction.harmless_projection)),
    )


_RULES: dict[Rule, str] = {
    "published": "as the paper states it",
    "code": "as the paper's code applies it",
    "calibrated": "as the paper states it, with a calibrated limit of induce",
}


def _limit_facts(run: RunRecords) -> Facts:
    if run.selection is None:
        return (("limits", NOT_MEASURED),)
    limits = run.selection.limits
    strict = limits.rule != "code"
    return (
        ("KL", f"{'below' if strict else 'at most'} {limits.max_kl:g} nats"),
        ("induce", f"{'above' if strict else 'at least'} {limits.min_induce:g} nats"),
        ("layer", f"below {limits.max_layer_fraction:g} of {run.selection.n_layers} layers"),
        ("rule", _RULES[limits.rule]),
        ("harmful validation prompts", _count(run.selection.n_harmful)),
        ("harmless validation prompts", _count(run.selection.n_harmless)),
    )


def _count(value: int | None) -> str:
    return NOT_MEASURED if value is None else str(value)


def _recorded(value: int | None) -> str:
    return NOT_RECORDED if value is None else str(value)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
