"""The stages of a run: each reads what came before, computes, and writes its files whole.

What a stage does is in the folders below `pipeline`; here it is put together and saved.
"""

import torch
from safetensors.torch import load_file, save

from refusalscope.activations.means import Keep, MeanActivations, mean_resid_pre
from refusalscope.directions.difference_in_means import difference_in_means
from refusalscope.directions.direction import (
    Direction,
    load_direction,
    save_direction,
    unit_direction,
)
from refusalscope.errors import InstructionsError
from refusalscope.evaluation.flag_completions import flag_completions
from refusalscope.evaluation.judges import judge_all
from refusalscope.evaluation.loss import answered, text_loss
from refusalscope.evaluation.rule_judges import rules_for
from refusalscope.interventions.intervention import Intervention, condition_intervention
from refusalscope.metrics.refusal_metric import refusal_metric
from refusalscope.models.batches import by_length, pad
from refusalscope.models.forward import last_token_logits, require_finite
from refusalscope.pipeline.context import RunContext
from refusalscope.results.files import write_file
from refusalscope.results.records import (
    Condition,
    DirectionFacts,
    ExtractionFacts,
    Losses,
)
from refusalscope.results.run_records import (
    COHERENCE_FLAGS,
    DIRECTION,
    DIRECTION_TENSOR,
    EVALUATION,
    EXTRACTION,
    LOSS,
    MEAN_DIFFERENCES,
    SCORES,
    judgements_file,
    read_all_completions,
    read_dataset_completions,
    read_record,
)
from refusalscope.selection.select_direction import select_direction

TRAIN_SETS = ("harmful_train", "harmless_train")
VAL_SETS = ("harmful_val", "harmless_val")
LOSS_CONDITIONS: tuple[Condition, ...] = ("baseline", "ablation", "subtraction", "random_ablation")


def extract(run: RunContext) -> None:
    """Mean activations of both training sets, their difference, and the filter's verdicts."""
    total = sum(len(run.sets[name].instructions) for name in (*TRAIN_SETS, *VAL_SETS))
    with run.progress.stage("extract", total, unit="prompts") as advance:
        means: dict[str, MeanActivations] = {}
        for name in TRAIN_SETS:
            keep = _keep(run, is_harmful=name.startswith("harmful"))
            prompts = run.prompts(name)
            means[name] = mean_resid_pre(
                run.chat, prompts, keep=keep, batch_size=run.options.batch_size, progress=advance
            )
        kept = {}
        for name in VAL_SETS:
            kept[name] = kept_indices(run, name)
            advance(len(run.sets[name].instructions))
    counts = [run.sets[n].counts(n_kept=sum(means[n].kept)) for n in TRAIN_SETS]
    counts += [run.sets[n].counts(n_kept=len(kept[n])) for n in VAL_SETS]
    harmful, harmless = (means[name].means for name in TRAIN_SETS)
    tensors = {
        "mean_differences": difference_in_means(harmful=harmful, harmless=harmless),
        "harmful_means": harmful,
        "harmless_means": harmless,
    }
    write_file(run.folder.path / MEAN_DIFFERENCES, save(tensors))
    facts = ExtractionFacts(
        counts=tuple(counts),
        kept=kept,
        positions=run.chat.positions,
        n_layers=run.chat.n_layers,
        d_model=run.chat.d_model,
        warnings=_control_text_warnings(run),
    )
    write_file(run.folder.path / EXTRACTION, facts.to_json())


def select(run: RunContext) -> None:
    """Score candidates, choose one, save it as the direction."""
    tensors = load_file(run.folder.path / MEAN_DIFFERENCES)
    extraction = read_record(ExtractionFacts, run.folder.path / EXTRACTION)
    val = {name: [run.prompts(name)[i] for i in extraction.kept[name]] for name in VAL_SETS}
    with run.progress.stage("select", None, unit="sweeps") as advance:
        selection = select_direction(
            run.chat,
            tensors["mean_differences"],
            harmful=val["harmful_val"],
            harmless=val["harmless_val"],
            refusal_tokens=run.refusal_tokens,
            limits=run.options.limits,
            all_scores=run.options.all_scores,
            progress=advance,
        )
    chosen = selection.chosen
    site = (chosen.position, chosen.layer)
    vector = tensors["mean_differences"][site]
    unit = unit_direction(vector).double()
    facts = DirectionFacts(
        model=run.chat.name,
        position=chosen.position,
        layer=chosen.layer,
        n_layers=run.chat.n_layers,
        d_model=run.chat.d_model,
        norm=vector.norm().item(),
        bypass=chosen.bypass,
        induce=chosen.induce,
        kl=chosen.kl,
        harmful_projection=(tensors["harmful_means"][site] @ unit).item(),
        harmless_projection=(tensors["harmless_means"][site] @ unit).item(),
    )
    write_file(run.folder.path / SCORES, selection.to_json())
    write_file(run.folder.path / DIRECTION, facts.to_json())
    direction = Direction(
        vector=vector.float(), position=chosen.position, layer=chosen.layer, model=run.chat.name
    )
    save_direction(direction, run.folder.path / DIRECTION_TENSOR)


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
    rows = read_dataset_completions(run.folder.path, "harmless", "baseline")
    answers = [row.text for row in rows]
    interventions = conditions(run, LOSS_CONDITIONS)
    with run.progress.stage("loss", 1, unit="texts") as advance:
        rows = text_loss(
            run.chat,
            answered(run.chat, run.prompts("harmless"), answers),
            dataset="harmless",
            interventions=interventions,
            batch_size=run.options.batch_size,
        )
        advance(1)
    write_file(run.folder.path / LOSS, Losses(rows=tuple(rows)).to_json())


def conditions(
    run: RunContext, names: tuple[Condition, ...]
) -> dict[Condition, Intervention | None]:
    """The interventions of the run's direction, by condition."""
    direction = load_direction(run.folder.path, d_model=run.chat.d_model)
    if direction.layer is None:
        raise InstructionsError("the run's direction has no layer; run select again")
    return {
        name: condition_intervention(
            name,
            vector=direction.vector,
            layer=direction.layer,
            control_seed=run.options.seed,
        )
        for name in names
    }


def _keep(run: RunContext, *, is_harmful: bool) -> Keep | None:
    if not run.options.filter_instructions:
        return None

    def keep(logits: torch.Tensor) -> torch.Tensor:
        metric = refusal_metric(logits, run.refusal_tokens)
        return metric > 0 if is_harmful else metric < 0

    return keep


def kept_indices(run: RunContext, name: str) -> tuple[int, ...]:
    """The prompts of a set that the refusal filter keeps; all of them in a run without it.

    Raises:
        InstructionsError: it keeps none.
    """
    prompts = run.prompts(name)
    keep = _keep(run, is_harmful=name.startswith("harmful"))
    if keep is None:
        return tuple(range(len(prompts)))
    kept: list[int] = []
    for indices in by_length(prompts, batch_size=run.options.batch_size):
        batch = pad([prompts[i] for i in indices], pad_id=run.chat.pad_id, device=run.chat.device)
        mask = keep(require_finite(last_token_logits(run.chat.model, batch))).tolist()
        kept += [i for i, is_kept in zip(indices, mask, strict=True) if is_kept]
    if not kept:
        raise InstructionsError(
            f"the refusal filter keeps none of {len(prompts)} {name} instructions; give other "
            f"instructions or --refusal-token, or run with --no-filter"
        )
    return tuple(sorted(kept))


def _control_text_warnings(run: RunContext) -> tuple[str, ...]:
    warnings = []
    for name in run.sets:
        n = sum(prompt.has_control_text for prompt in run.prompts(name))
        if n:
            warnings.append(
                f"{n} instructions of {name} spell a control token of the chat template; it was "
                f"tokenized as ordinary text"
            )
    return tuple(warnings)
