"""From candidates to the direction that is chosen: all of it that needs no folder."""

from collections.abc import Sequence
from dataclasses import dataclass

from refusalscope.directions.direction import Direction, unit_direction
from refusalscope.models.prompts import Prompt
from refusalscope.pipeline.candidates import VAL_SETS, Candidates
from refusalscope.pipeline.context import Stage, Study
from refusalscope.results.records import (
    Calibration,
    DirectionFacts,
    ExtractionFacts,
    Selection,
    SelectionLimits,
)
from refusalscope.selection.score_book import ScoreBook
from refusalscope.selection.select_direction import SelectionPlan, select_direction
from refusalscope.selection.watch import Lead


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The choice, and the direction in words and as a vector."""

    selection: Selection
    facts: DirectionFacts
    direction: Direction


def choose(
    study: Study,
    candidates: Candidates,
    prompts: dict[str, list[Prompt]],
    *,
    stage: Stage,
    book: ScoreBook | None = None,
) -> Chosen:
    """Score candidates and choose one: see `selection.select_direction`.

    Args:
        candidates: With tensors and refusal tokens.
        prompts: What `kept_prompts` returns.
        stage: Shows how far it is, who leads after the first look, and about how much is left.
        book: Scores that are known already; every new one is put into it.

    Raises:
        SelectionError: no candidate can be chosen, or none passes and the options are strict.
    """
    assert candidates.refusal_tokens is not None, "what extraction finds has refusal tokens"
    limits = limits_of(study, candidates.facts)
    selection = select_direction(
        study.chat,
        candidates.vectors,
        harmful=prompts["harmful_val"],
        harmless=prompts["harmless_val"],
        refusal_tokens=candidates.refusal_tokens.ids,
        limits=limits,
        plan=SelectionPlan(
            all_scores=study.options.all_scores,
            strict=study.options.strict,
            others=_other_rules(study, limits, candidates.facts.calibration),
        ),
        book=book,
        progress=stage,
        watch=_Shown(stage),
    )
    return _chosen(study, candidates, selection)


@dataclass(frozen=True, slots=True)
class _Shown:
    """The search, as whoever watches the stage sees it."""

    stage: Stage

    def expect(self, sweeps: float) -> None:
        self.stage.expect(sweeps)

    def leads(self, leads: Sequence[Lead], *, are_estimates: bool) -> None:
        shown = "; ".join(
            f"position {lead.candidate[0]}, layer {lead.candidate[1]} ("
            + ("" if lead.bypass is None else f"bypass {lead.bypass:.1f}, ")
            + f"induce {lead.induce:.1f})"
            for lead in leads
        )
        by = "to first order" if are_estimates else "after a first look at few prompts"
        if shown:
            self.stage.say(f"{by} these lead: {shown}")


def limits_of(study: Study, extraction: ExtractionFacts) -> SelectionLimits:
    """The limits in numbers."""
    return study.options.limits.resolved(study.is_papers, extraction.calibration)


def kept_prompts(study: Study, extraction: ExtractionFacts) -> dict[str, list[Prompt]]:
    """The prompts of both validation sets that the filter kept."""
    prompts = {name: study.prompts(name) for name in VAL_SETS}
    return {name: [own[i] for i in extraction.kept[name]] for name, own in prompts.items()}


def _other_rules(
    study: Study, limits: SelectionLimits, calibration: Calibration | None
) -> tuple[SelectionLimits, ...]:
    """The published limit beside a calibrated one, and the other way round where it is known."""
    if limits.rule == "calibrated":
        return (limits.model_copy(update={"rule": "published", "min_induce": 0.0}),)
    if limits.rule == "published" and calibration is not None:
        by = study.options.limits.model_copy(update={"rule": "calibrated", "min_induce": None})
        return (by.resolved(study.is_papers, calibration),)
    return ()


def _chosen(study: Study, candidates: Candidates, selection: Selection) -> Chosen:
    chosen = selection.chosen
    site = (chosen.position, chosen.layer)
    tensors = candidates.tensors
    vector = candidates.vectors[site]
    unit = unit_direction(vector).double()
    facts = DirectionFacts(
        model=study.chat.name,
        position=chosen.position,
        layer=chosen.layer,
        n_layers=study.chat.n_layers,
        d_model=study.chat.d_model,
        norm=vector.norm().item(),
        bypass=chosen.bypass,
        induce=chosen.induce,
        kl=chosen.kl,
        harmful_projection=(tensors["harmful_means"][site] @ unit).item(),
        harmless_projection=(tensors["harmless_means"][site] @ unit).item(),
    )
    direction = Direction(
        vector=vector.float(), position=chosen.position, layer=chosen.layer, model=study.chat.name
    )
    return Chosen(selection=selection, facts=facts, direction=direction)
