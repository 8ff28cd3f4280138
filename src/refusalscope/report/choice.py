"""How a direction was chosen, or why none was: what counted as a refusal, which rule, how sure."""

from dataclasses import dataclass

from markupsafe import Markup

from refusalscope.report.estimator_table import channel_table, estimator_sentence
from refusalscope.report.table import Table
from refusalscope.report.visible_text import token_label, visible_html
from refusalscope.report.wording import number, percent, position_name, rate_in_full
from refusalscope.results.contrast_records import Contrast, Separation
from refusalscope.results.records import (
    Calibration,
    CandidateScores,
    LabelCounts,
    Rule,
    Selection,
    Stability,
)
from refusalscope.results.run_records import RunRecords

_RULES: dict[Rule, str] = {
    "published": "the rule as published",
    "code": "the rule as the paper's code applies it",
    "calibrated": "the published rule with a calibrated limit of induce",
}
_LIMITS = {"induce": "adding it induces too little refusal", "kl": "removing it disturbs too much"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """A set of refusal tokens and its errors, as text."""

    tokens: str
    error: str
    threshold: str
    error_at_zero: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the page says of a choice: sentences, labels of each set, refusal tokens, channels."""

    sentences: tuple[str, ...]
    labels: tuple[LabelCounts, ...]
    tokens: tuple[TokenRow, ...]
    channels: Table | None = None


def describe_choice(run: RunRecords) -> Choice | None:
    """The choice in words; None of a run that has extracted nothing."""
    extraction, selection = run.extraction, run.selection
    if extraction is None:
        return None
    asked = bool(extraction.labels) and extraction.labels[0].n_answers is not None
    by = "its short greedy answer" if extraction.label == "answers" else "the refusal metric"
    sentences = [f"A prompt counts as refused by {by}."] if extraction.labels else []
    sentences += [] if extraction.contrast is None else [_contrast(extraction.contrast)]
    by_another = estimator_sentence(extraction)
    sentences += [] if by_another is None else [by_another]
    if run.no_direction is not None:
        sentences.append(f"No direction: {run.no_direction.text}.")
    elif selection is not None:
        sentences += _rule(selection, extraction.calibration)
        if selection.stability is not None:
            sentences += _stability(selection.stability, selection)
    return Choice(
        sentences=tuple(sentences),
        labels=extraction.labels if asked else (),
        tokens=_tokens(extraction.calibration),
        channels=channel_table(extraction, run.direction),
    )


def no_direction_sentence(run: RunRecords) -> Markup | None:
    """The finding of a run without a direction; None of any other."""
    if run.no_direction is None:
        return None
    name = Markup("<b><bdi>{}</bdi></b>").format(visible_html(run.manifest.model.name))
    rates = {} if run.summary is None else run.summary.refusal.get("harmful", {})
    rate = rates.get("baseline")
    shown = "" if rate is None else f" It refuses {rate_in_full(rate)} of the harmful test ones."
    words = {
        "refuses too little": "{} refuses too little to have a direction found",
        "answers too little": "{} answers too few harmless instructions to have a direction found",
        "no refusal token": "{} refuses, but no first token tells its refusals from its answers",
        "no candidate": "{} has no candidate direction that could be chosen",
    }[run.no_direction.reason]
    return Markup(
        words + ": {}.{} Ablation, addition, subtraction, their controls and losses are "
        "not measured."
    ).format(name, run.no_direction.text, shown)


def nearest_sentence(selection: Selection | None) -> str | None:
    """That no candidate passed, and by what the nearest one fails; None where one did."""
    if selection is None or not selection.nearest:
        return None
    chosen = selection.chosen
    fails = " and ".join(_LIMITS.get(name, name) for name in selection.failed_limits)
    return (
        f"No candidate is within every limit: this is the one that comes nearest ({fails}: induce "
        f"{number(chosen.induce, 2)}, limit {number(selection.limits.min_induce, 2)}; KL "
        f"{number(chosen.kl)}, limit {selection.limits.max_kl:g})."
    )


def _contrast(contrast: Contrast) -> str:
    """What tells the instructions apart without the model."""

    def area(one: Separation) -> str:
        return f"{number(one.area, 2)} (95 % {number(one.low, 2)} to {number(one.high, 2)})"

    # Words were weighed on other instructions: below chance they say nothing that carries over.
    by_words = contrast.words.low > 0.5
    by_length = not contrast.length.low <= 0.5 <= contrast.length.high
    told = by_words or by_length
    warns = " A direction between the two sets may in part be one of that." if told else ""
    return (
        f"Without the model, words alone tell the {contrast.n_harmful} harmful instructions of "
        f"validation and test from the {contrast.n_harmless} harmless ones with an AUROC of "
        f"{area(contrast.words)}, length alone with {area(contrast.length)}; 0.5 is chance.{warns}"
    )


def _rule(selection: Selection, calibration: Calibration | None) -> list[str]:
    limits = selection.limits
    found = [f"Chosen by {_RULES[limits.rule]}: induce above {number(limits.min_induce, 2)} nats."]
    if limits.rule == "calibrated" and calibration is not None:
        found.append(
            f"That is the log-odds at which the model's {calibration.n_refused} refusals and "
            f"{calibration.n_answered} other answers to training prompts are best told apart (95 % "
            f"interval {number(calibration.low, 2)} to {number(calibration.high, 2)}); in the "
            f"paper it is 0."
        )
    for other in selection.others:
        found.append(
            f"By {_RULES[other.limits.rule]} (induce above "
            f"{number(other.limits.min_induce, 2)}) {_would(other.chosen, selection)}."
        )
    return found


def _would(chosen: CandidateScores | None, selection: Selection) -> str:
    if chosen is None:
        return "no candidate passes"
    own = selection.chosen
    if (chosen.position, chosen.layer) == (own.position, own.layer):
        return "the choice is the same"
    return (
        f"the choice would be position {position_name(chosen.position)}, layer {chosen.layer} "
        f"(bypass {number(chosen.bypass, 2)}, induce {number(chosen.induce, 2)}, KL "
        f"{number(chosen.kl)})"
    )


def _stability(stability: Stability, selection: Selection) -> list[str]:
    """How sure the choice is, over validation prompts."""
    own = (selection.chosen.position, selection.chosen.layer)
    shares = {(one.position, one.layer): one.share for one in stability.winners}
    others = [
        f"position {position_name(p)}, layer {layer} in {percent(share)}"
        for (p, layer), share in shares.items()
        if (p, layer) != own
    ]
    scores = (
        f"Over validation prompts its bypass lies between {number(stability.bypass.low, 2)} and "
        f"{number(stability.bypass.high, 2)} nats, induce between "
        f"{number(stability.induce.low, 2)} and {number(stability.induce.high, 2)}, KL between "
        f"{number(stability.kl.low)} and {number(stability.kl.high)} (95 %)."
    )
    wins = f"It wins in {percent(shares.get(own, 0.0))} of {stability.n_resamples} resamples"
    if others:
        wins += f"; {', '.join(others[:3])}"
    if stability.none:
        wins += f"; nothing passes in {percent(stability.none)}"
    n = stability.n_candidates
    return [scores, f"{wins} ({n} candidate{'' if n == 1 else 's'} scored in full)."]


def _tokens(calibration: Calibration | None) -> tuple[TokenRow, ...]:
    return tuple(
        TokenRow(
            tokens=" ".join(token_label(text) for text in one.strings),
            error="none" if one.error is None else percent(one.error),
            threshold="none" if one.threshold is None else number(one.threshold, 2),
            error_at_zero=percent(one.error_at_zero),
        )
        for one in (calibration.sets if calibration else ())
    )
