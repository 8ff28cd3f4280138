"""The stages of a run: each reads what came before, computes, and writes its files whole.

What a stage does is in the folders below `pipeline`; here it is put together and saved.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from refusalscope.directions.direction import load_direction, save_direction
from refusalscope.errors import InstructionsError, RunFolderError, SelectionError
from refusalscope.evaluation.flag_completions import flag_completions
from refusalscope.evaluation.judges import judge_all
from refusalscope.evaluation.loss import answered, text_loss
from refusalscope.evaluation.rule_judges import rules_for
from refusalscope.interventions.intervention import Intervention, condition_intervention
from refusalscope.models.prompts import Prompt
from refusalscope.pipeline.candidates import Candidates, prompt_metrics
from refusalscope.pipeline.choose import Chosen, choose, kept_prompts, limits_of
from refusalscope.pipeline.context import RunContext
from refusalscope.results.evaluation_folder import measured_beside
from refusalscope.results.files import sha256_text, write_file
from refusalscope.results.records import (
    Condition,
    DatasetLoss,
    DirectionFacts,
    ExtractionFacts,
    Losses,
    NoDirection,
)
from refusalscope.results.run_records import (
    COHERENCE_FLAGS,
    DIRECTION,
    DIRECTION_TENSOR,
    EVALUATION,
    EXTRACTION,
    LOSS,
    MEAN_DIFFERENCES,
    NO_DIRECTION,
    PROMPT_SCORES,
    SCORES,
    judgements_file,
    read_all_completions,
    read_dataset_completions,
    read_if_there,
    read_record,
)
from refusalscope.selection.score_book import ScoreBook
from refusalscope.selection.scorer import Candidate

_LOG = logging.getLogger(__name__)
LOSS_CONDITIONS: tuple[Condition, ...] = ("baseline", "ablation", "subtraction", "random_ablation")


def select(run: RunContext) -> None:
    """Score candidates, choose one, save it as the direction.

    Every score is kept in selection/prompt_scores.jsonl as it comes: a run that was cut, or that is
    continued with other limits, scores nothing twice.
    """
    out = run.folder.path
    lacking = read_if_there(NoDirection, out / NO_DIRECTION)
    if lacking is not None and lacking.reason != "no candidate":
        return
    (out / NO_DIRECTION).unlink(missing_ok=True)
    candidates = candidates_of(run)
    prompts = kept_prompts(run.study, candidates.facts)
    book = ScoreBook(out / PROMPT_SCORES, key=score_key(run, candidates.vectors, prompts))
    with run.progress.stage("select", None, unit="sweeps") as advance:
        try:
            chosen = choose(run.study, candidates, prompts, book=book, stage=advance)
        except SelectionError as error:
            if run.options.strict:
                raise
            if (out / DIRECTION).is_file():
                raise RunFolderError(
                    f"by these limits {error}, and {out} holds a direction and what was measured "
                    f"of it; give another --out"
                ) from error
            lacking = NoDirection(reason="no candidate", text=str(error))
            write_file(out / NO_DIRECTION, lacking.to_json())
            return
    _save_choice(out, chosen)


def has_no_direction(run: RunContext) -> bool:
    """Whether the run has found that there is no direction to be had."""
    return (run.folder.path / NO_DIRECTION).is_file()


def candidates_of(run: RunContext) -> Candidates:
    """What extraction has written."""
    out = run.folder.path
    return Candidates(
        facts=read_record(ExtractionFacts, out / EXTRACTION),
        refusal_tokens=run.folder.manifest().model.refusal_tokens,
        lacking=None,
        tensors=load_file(out / MEAN_DIFFERENCES),
    )


def score_key(
    run: RunContext, vectors: Float[Tensor, "pos layer d_model"], val: Mapping[str, list[Prompt]]
) -> str:
    """Digest of all that a score depends on: not the limits, but the formulas of their rule."""
    model = run.folder.manifest().model
    facts = read_record(ExtractionFacts, run.folder.path / EXTRACTION)
    formulas = "paper" if limits_of(run.study, facts).rule == "code" else "exact"
    prompts = {name: [prompt.ids for prompt in own] for name, own in val.items()}
    what = [model.weights_sha256, model.dtype, run.refusal_tokens, formulas, prompts]
    numbers = vectors.contiguous().view(torch.uint8).numpy().tobytes()
    return sha256_text(json.dumps([*what, hashlib.sha256(numbers).hexdigest()]))


def _save_choice(out: Path, chosen: Chosen) -> None:
    _require_same_direction(out, chosen.facts)
    write_file(out / SCORES, chosen.selection.to_json())
    write_file(out / DIRECTION, chosen.facts.to_json())
    save_direction(chosen.direction, out / DIRECTION_TENSOR)


def _require_same_direction(out: Path, facts: DirectionFacts) -> None:
    """Refuse to put another direction under measurements that the run's stages do not make anew.

    Raises:
        RunFolderError: there are some.
    """
    before = read_if_there(DirectionFacts, out / DIRECTION)
    if before is None or (before.position, before.layer) == (facts.position, facts.layer):
        return
    beside = measured_beside(out)
    if beside:
        raise RunFolderError(
            f"these limits choose position {facts.position}, layer {facts.layer}, and {out} holds "
            f"measurements of position {before.position}, layer {before.layer} (the first is "
            f"{beside[0]}); give another --out, or move them away"
        )


def judge(run: RunContext) -> None:
    """Judge every completion by every rule that the run has; note which are no coherent text."""
    judges = rules_for(run.language)
    rows = read_all_completions(run.folder.path)
    with run.progress.stage("judge", len(judges), unit="judges") as advance:
        for each in judges:
            for judgements in judge_all(each, rows):
                path = run.folder.path / EVALUATION / judgements_file(judgements.judge)
                write_file(path, judgements.to_json())
            advance(1)
    write_file(run.folder.path / COHERENCE_FLAGS, flag_completions(rows).to_json())


def loss(run: RunContext) -> None:
    """Cross-entropy of the model's own harmless completions, under each condition."""
    if has_no_direction(run):
        return
    answers = read_dataset_completions(run.folder.path, "harmless", "baseline")
    interventions = conditions(run, LOSS_CONDITIONS)
    texts = answered(run.chat, run.prompts("harmless"), answers)
    rows: list[DatasetLoss] = []
    with run.progress.stage("loss", 1, unit="texts") as advance:
        if texts:
            rows = text_loss(
                run.chat,
                texts,
                dataset="harmless",
                interventions=interventions,
                batch_size=run.options.batch_size,
            )
        else:
            _LOG.warning("all %d answers on harmless are empty; no loss is measured", len(answers))
        advance(1)
    write_file(run.folder.path / LOSS, Losses(rows=tuple(rows)).to_json())


def conditions(
    run: RunContext, names: tuple[Condition, ...]
) -> dict[Condition, Intervention | None]:
    """The interventions of the run's direction, by condition."""
    vector, (_, layer) = chosen_direction(run)
    return {
        name: condition_intervention(
            name, vector=vector, layer=layer, control_seed=run.options.seed
        )
        for name in names
    }


def chosen_direction(run: RunContext) -> tuple[Float[Tensor, " d_model"], Candidate]:
    """The run's direction, not normalised, and its position and layer.

    Raises:
        InstructionsError: its file does not say where it was read.
    """
    direction = load_direction(run.folder.path, d_model=run.chat.d_model)
    if direction.position is None or direction.layer is None:
        raise InstructionsError("the run's direction has no place; run select again")
    return direction.vector, (direction.position, direction.layer)


def kept_indices(run: RunContext, name: str) -> tuple[int, ...]:
    """The prompts of a set that the refusal metric keeps; all of them in a run without the filter.

    Harmful ones above the run's threshold: 0 as in the paper, or what calibration found.

    Raises:
        InstructionsError: it keeps none.
    """
    n = len(run.sets[name].instructions)
    if not run.options.filter_instructions:
        return tuple(range(n))
    threshold, is_harmful = metric_threshold(run), name.startswith("harmful")
    kept = tuple(
        i
        for i, metric in enumerate(prompt_metrics(run.study, name, run.refusal_tokens))
        if (metric > threshold if is_harmful else metric < threshold)
    )
    if not kept:
        raise InstructionsError(
            f"the refusal filter keeps none of {n} {name} instructions; give other instructions or "
            f"--refusal-token, or run with --no-filter"
        )
    return kept


def metric_threshold(run: RunContext) -> float:
    """The refusal metric above which a prompt counts as refused, in nats."""
    extraction = read_if_there(ExtractionFacts, run.folder.path / EXTRACTION)
    if extraction is None or extraction.label == "metric" or extraction.calibration is None:
        return 0.0
    return extraction.calibration.threshold
