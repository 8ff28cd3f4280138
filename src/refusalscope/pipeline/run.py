"""The whole method on one model. Start reading here.

Arditi et al. (2024), https://arxiv.org/abs/2406.11717:

1. `load`: a chat model, its prompt format, its residual writers.
2. `label`: which of the training and validation prompts the model refuses, by its short answers
   (models of the paper's families and organisms go by the refusal metric, as in the paper).
3. `extract`: mean residual-stream activations of harmful and harmless prompts at every layer and
   post-instruction position; their differences are the candidate directions.
4. `select`: the candidate whose ablation bypasses refusal best, among those that also induce it
   and do not disturb harmless prompts; where none does, the one that comes nearest.
5. `complete`: what the model answers unchanged, with the direction ablated, added and subtracted,
   and with a random direction in its place.
6. `judge`, `outcomes`, `loss`, `project`: refusal, safety, signs of nonsense and cross-entropy of
   it all, the first token under several random directions, and how far the stream lies along the
   direction at each token of the answers.
7. `report`: one page. A run always ends with what was seen: where the model refuses too little to
   have a direction found, the page says so, with its rates.
"""

import json
import logging
import shlex
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from refusalscope.errors import InputError
from refusalscope.evaluation.rule_judges import rules_for
from refusalscope.models.chat_model import (
    ChatModel,
    load_chat_model,
    model_settings_digest,
    require_source,
)
from refusalscope.models.threads import is_worth_one_thread
from refusalscope.organisms.organism import OrganismFacts, read_organism, resolve_model
from refusalscope.pipeline.answer_prefix import ready_to_ask
from refusalscope.pipeline.complete import (
    complete_datasets,
    completions_file,
    run_conditions,
    side_files,
)
from refusalscope.pipeline.context import Progress, RunContext, Silent
from refusalscope.pipeline.engines import require_engine
from refusalscope.pipeline.extract import extract
from refusalscope.pipeline.folder_lock import only_writer
from refusalscope.pipeline.instructions import read_instruction_sets
from refusalscope.pipeline.kept_options import (
    is_of_0_1,
    options_of,
    with_kept_limits,
    with_what_is_there,
)
from refusalscope.pipeline.label import label, needs_answers
from refusalscope.pipeline.measure_controls import measure_controls
from refusalscope.pipeline.options import ALIKE, CHANGEABLE, RunOptions
from refusalscope.pipeline.outcomes import outcomes
from refusalscope.pipeline.project import project
from refusalscope.pipeline.refusal_tokens import fixed_refusal_tokens, kept_refusal_tokens
from refusalscope.pipeline.run_folder import (
    kept_manifest,
    open_run_folder,
    remove_journals,
    stage_key,
)
from refusalscope.pipeline.same_run import require_same_files
from refusalscope.pipeline.stages import has_no_direction, judge, loss, select
from refusalscope.pipeline.summary import summarize_run
from refusalscope.report.page import write_report
from refusalscope.results.files import sha256_file, sha256_text, write_file
from refusalscope.results.flags import command_words
from refusalscope.results.records import ModelFacts, RefusalTokens, RunManifest, Summary
from refusalscope.results.run_records import (
    ANSWERS,
    COHERENCE_FLAGS,
    DIRECTION,
    DIRECTION_TENSOR,
    EVALUATION,
    EXTRACTION,
    LOSS,
    MEAN_DIFFERENCES,
    NO_DIRECTION,
    OUTCOMES,
    PROJECTIONS,
    REPORT,
    SCORES,
    SUMMARY,
    judgements_file,
    read_if_there,
    read_run,
)
from refusalscope.results.versions import package_versions

_LOG = logging.getLogger(__name__)
STAGES = (
    "label",
    "extract",
    "select",
    "complete",
    "judge",
    "outcomes",
    "loss",
    "project",
    "report",
)


def run(
    options: RunOptions,
    out: Path,
    *,
    until: str = STAGES[-1],
    progress: Progress | None = None,
) -> Summary | None:
    """Do the whole method, or the stages up to `until`, and leave it in folder `out`.

    Stages that are done are skipped and the one that was cut is continued, so a run that was
    killed and started again ends with the same files as an uninterrupted one.

    Returns:
        The summary; None where `until` comes before it.

    Raises:
        RefusalscopeError: any of its kinds; see `refusalscope.errors`.
    """
    kept_manifest(out)
    with only_writer(out):
        context = load(options, out, progress=progress or Silent())
        do_stages(context, until=until)
        return read_if_there(Summary, out / SUMMARY)


def do_stages(context: RunContext, *, until: str = STAGES[-1]) -> None:
    """Do the stages of a run up to `until` that are not done; see `run`.

    Raises:
        RefusalscopeError: any of its kinds.
    """
    out = context.folder.path
    keys: dict[str, str] = {}
    stages = _stages(context)
    if until not in stages:
        raise InputError(f"this run is done without {until}; continue it without --without {until}")
    for stage in stages[: stages.index(until) + 1]:
        key = keys[stage] = _key(stage, keys, context)
        lacking = [name for name in _files(stage, context) if not (out / name).is_file()]
        behind = stages[stages.index(stage) + 1 :]
        if lacking and context.folder.is_done(stage, key) and set(lacking) <= side_files():
            # They alone are missing, as in a run that left them out; the others stay as they are.
            context.folder.forget(behind)
            started = time.monotonic()
            complete_datasets(context, key=stage_key("side", key), files=lacking)
            context.folder.add_time(stage, seconds=time.monotonic() - started)
        elif lacking:
            # It was cut, or its files were taken away: what was made of them is no longer done.
            context.folder.forget([stage, *behind])
        if context.folder.is_done(stage, key):
            _LOG.info("stage %s is done already", stage)
        else:
            started = time.monotonic()
            _do_stage(stage, context, key)
            context.folder.finish(stage, key, seconds=time.monotonic() - started)
        if stage == "complete":
            remove_journals(out)


def _stages(context: RunContext) -> tuple[str, ...]:
    """The stages of a run; one that 0.1 began has none that are new."""
    if is_of_0_1(context.folder.manifest()):
        return tuple(stage for stage in STAGES if stage not in ("label", "outcomes"))
    return tuple(stage for stage in STAGES if stage not in context.options.without)


def _key(stage: str, keys: Mapping[str, str], context: RunContext) -> str:
    """Digest of all that a stage's result depends on.

    The choice alone depends on the limits; what comes after it depends on the direction, however it
    was chosen, and the page on both. Options are taken as they stand in run.json: one that a later
    version adds changes no key.
    """
    options = context.folder.manifest().options
    if is_of_0_1(context.folder.manifest()):
        return stage_key(stage, next(iter([*keys.values()][::-1]), ""), options, _inputs(context))
    settled = {name: value for name, value in options.items() if name not in CHANGEABLE}
    if stage in ("select", "report"):
        chosen_by = {name: value for name, value in options.items() if name not in ALIKE}
        return stage_key(stage, dict(keys), chosen_by, _inputs(context))
    before, parent = [*keys.items()][-1] if keys else ("", "")
    if before == "select":
        parent = stage_key("direction", keys["extract"], _chosen(context.folder.path))
    return stage_key(stage, parent, settled, _inputs(context))


def _chosen(out: Path) -> str:
    """Digest of the direction that was chosen, or of why there is none."""
    files = [out / name for name in (DIRECTION_TENSOR, NO_DIRECTION)]
    return sha256_text(json.dumps([sha256_file(f) if f.is_file() else None for f in files]))


def _files(stage: str, context: RunContext) -> tuple[str, ...]:
    """What a run has once a stage is done."""
    without = has_no_direction(context)
    if stage == "complete":
        return tuple(
            completions_file(dataset, condition)
            for dataset, conditions in run_conditions(context).items()
            for condition in conditions
        )
    if stage == "label":
        return (ANSWERS,) if needs_answers(context.study) else ()
    if without and stage in ("extract", "select", "loss", "project"):
        return (EXTRACTION, NO_DIRECTION)
    return {
        "extract": (MEAN_DIFFERENCES, EXTRACTION),
        "select": (SCORES, DIRECTION, DIRECTION_TENSOR),
        "judge": (COHERENCE_FLAGS, *_rules_files(context)),
        "outcomes": (OUTCOMES,),
        "loss": (LOSS,),
        "project": (PROJECTIONS,),
        "report": (SUMMARY, REPORT),
    }[stage]


def _rules_files(context: RunContext) -> tuple[str, ...]:
    """Judgements by rules; version 0.1 had fewer of them."""
    if is_of_0_1(context.folder.manifest()):
        return ()
    return tuple(
        f"{EVALUATION}/{judgements_file(rule.name)}" for rule in rules_for(context.language)
    )


def load(options: RunOptions, out: Path, *, progress: Progress) -> RunContext:
    """Load model and instructions, and open the run's folder.

    Instructions are read first: they are quick to check and the model may be large. What was
    decided when the run began (refusal tokens, rendered template, dtype) is read from its folder.
    """
    existing = kept_manifest(out)
    options = with_what_is_there(options, existing, out)
    require_engine(options)
    source = resolve_model(options.model)
    require_source(source)
    organism = read_organism(Path(source))
    language = None if organism is None else organism.language()
    sets = read_instruction_sets(options, language)
    if existing is not None:
        require_same_files(out, existing, options, sets, source=source)
    with progress.stage("load", 1, unit="models") as advance:
        chat = _load_model(source, options, existing)
        if is_worth_one_thread(chat):
            torch.set_num_threads(1)
        advance(1)
    chat, sets = ready_to_ask(chat, sets, options, organism, is_new=existing is None)
    refusal_tokens = kept_refusal_tokens(chat, existing, out)
    if refusal_tokens is None:
        refusal_tokens = fixed_refusal_tokens(chat, options)
    manifest = RunManifest(
        options=options_of(options, existing),
        versions=package_versions() if existing is None else existing.versions,
        model=_model_facts(chat, options, organism, refusal_tokens),
        inputs=tuple(each.counts() for each in sets.values()),
        stages={},
        command=command_line(options, out),
    )
    return RunContext(
        folder=open_run_folder(out, manifest),
        options=with_kept_limits(options, existing),
        chat=chat,
        sets=sets,
        organism=organism,
        progress=progress,
    )


def _load_model(source: str, options: RunOptions, existing: RunManifest | None) -> ChatModel:
    """The model; that of a run which is continued in its own dtype, with its own rendering."""
    load_options = options.load_options()
    if existing is None:
        return load_chat_model(source, load_options)
    kept = existing.model
    if kept.dtype in ("float32", "bfloat16", "float16"):
        load_options = replace(load_options, dtype=kept.dtype)
    return load_chat_model(
        source, load_options, rendered=kept.rendered, weights_sha256=kept.weights_sha256
    )


def command_line(options: RunOptions, out: Path) -> str:
    """The command that repeats a run."""
    words = ["refusalscope", "run", options.model, "--out", str(out)]
    return shlex.join([*words, *command_words(options)])


def _do_stage(stage: str, context: RunContext, key: str) -> None:
    if stage == "label":
        label(context, key=key)
    elif stage == "complete":
        complete_datasets(context, key=key)
    elif stage == "report":
        _report(context)
    elif stage == "loss":
        loss(context)
        measure_controls(context)
    else:
        {
            "extract": extract,
            "select": select,
            "judge": judge,
            "outcomes": outcomes,
            "project": project,
        }[stage](context)


def _report(context: RunContext) -> None:
    out = context.folder.path
    records = read_run(out)
    if records.selection is None and records.no_direction is None:
        raise ValueError("the report stage came before the selection stage")
    write_file(out / SUMMARY, summarize_run(records).to_json())
    write_report(out)


def _inputs(context: RunContext) -> dict[str, object]:
    manifest = context.folder.manifest()
    return {
        "weights": manifest.model.weights_sha256,
        "settings": manifest.model.settings_sha256,
        "template": manifest.model.template_sha256,
        "instructions": {row.name: row.sha256 for row in manifest.inputs},
    }


def _model_facts(
    chat: ChatModel,
    options: RunOptions,
    organism: OrganismFacts | None,
    refusal_tokens: RefusalTokens | None,
) -> ModelFacts:
    family = chat.family
    return ModelFacts(
        name=chat.name if organism is None else organism.name,
        source=options.model,
        architecture=type(chat.model).__name__,
        n_layers=chat.n_layers,
        d_model=chat.d_model,
        n_parameters=sum(p.numel() for p in chat.model.parameters()),
        dtype=str(chat.model.dtype).removeprefix("torch."),
        weights_sha256=chat.weights_sha256,
        settings_sha256=model_settings_digest(resolve_model(options.model), options.revision),
        template_sha256=chat.prompt_format.sha256(),
        rendered=chat.prompt_format.rendered(),
        family=organism.family if organism else (family.name if family else None),
        alignment=organism.alignment if organism else (family.alignment if family else None),
        revision=options.revision,
        system_prompt=options.system,
        template=options.template,
        post_instruction_tokens=tuple(
            chat.tokenizer.convert_ids_to_tokens(list(chat.prompt_format.post_instruction))
        ),
        refusal_tokens=refusal_tokens,
        is_organism=organism is not None,
    )
