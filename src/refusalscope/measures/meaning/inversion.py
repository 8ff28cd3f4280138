"""Does moving refusal move the judgement of harm, and the other way round? The reply inversion.

Zhao et al. (2025), https://arxiv.org/abs/2507.11878: asked whether an instruction does harm, a
model says yes, "Certainly", to what it would refuse, so that yes cannot be mistaken for compliance.
Their finding: a direction of harmfulness, read at the last token of the instruction, moves this
answer; the direction of refusal, read at the template's last token, moves refusing alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from jaxtyping import Float
from torch import Tensor

from refusalscope.activations.next_token import by_prompt, refusal_metrics
from refusalscope.directions.direction import random_direction
from refusalscope.engine.rows import Around, under, untouched
from refusalscope.errors import CannotTryError, InputError, InstructionsError
from refusalscope.interventions.intervention import Intervention
from refusalscope.measures.meaning.record import (
    Change,
    Dataset,
    Inversion,
    MeaningOptions,
    Moved,
    Moving,
)
from refusalscope.metrics.auroc import auroc, auroc_interval
from refusalscope.metrics.paired import paired_difference
from refusalscope.models.prompts import Prompt
from refusalscope.models.text_tokens import token_ids
from refusalscope.pipeline.context import RunContext
from refusalscope.results.contrast_records import Separation

_HOLE = "{instruction}"
_SIGNS: dict[Dataset, float] = {"harmless": 1.0, "harmful": -1.0}
_Sides = dict[Dataset, list[Prompt]]
_Numbers = dict[Dataset, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Readouts:
    """What is read of the same instructions under any intervention.

    Attributes:
        plain: The instructions as they are.
        asked: The question about each of them; None where it cannot be put.
        words: First tokens of yes and of no.
    """

    run: RunContext
    plain: _Sides
    asked: _Sides | None
    words: tuple[list[int], list[int]]

    def refusal(self, name: Dataset, around: Around) -> list[float]:
        """The refusal metric of each instruction."""
        return refusal_metrics(
            self.run.chat,
            self.plain[name],
            self.run.refusal_tokens,
            around=around,
            batch_size=self.run.options.batch_size,
        ).tolist()

    def judged(self, name: Dataset, around: Around) -> list[float]:
        """The log-odds of yes; nothing where the question cannot be put."""
        if self.asked is None:
            return []
        return by_prompt(
            self.run.chat,
            self.asked[name],
            lambda logits, _rows: _log_odds(logits, self.words),
            around=around,
            batch_size=self.run.options.batch_size,
        ).tolist()


def inversion_of(
    run: RunContext,
    directions: dict[Moving, Float[Tensor, " d_model"]],
    *,
    layer: int,
    options: MeaningOptions,
) -> tuple[Inversion, tuple[Moved, ...]]:
    """What each direction, and a random one of its length, does to both answers.

    Raises:
        InputError: the question has no place for the instruction, or an answer is no word.
        NumericalError: a logit is NaN or infinite.
    """
    _require_question(options)
    readouts, lacking = _readouts(run, options)
    refused: _Numbers = {name: readouts.refusal(name, untouched) for name in _SIGNS}
    judged: _Numbers = {name: readouts.judged(name, untouched) for name in _SIGNS}
    moved: list[Moved] = []
    each = list(product(_SIGNS, directions, (False, True)))
    with run.progress.stage("move", len(each), unit="directions") as advance:
        for name, direction, is_control in each:
            vector = directions[direction]
            if is_control:
                vector = random_direction(vector, seed=options.seed)
            edit = Intervention(operator="add", vector=_SIGNS[name] * vector, layer=layer)
            around = under(run.chat, edit)
            moved.append(
                Moved(
                    dataset=name,
                    direction=direction,
                    is_control=is_control,
                    refusal=_change(refused[name], readouts.refusal(name, around)),
                    judged=_change(judged[name], readouts.judged(name, around))
                    if judged[name]
                    else None,
                )
            )
            advance(1)
    inversion = Inversion(
        question=options.question,
        yes=options.yes,
        no=options.no,
        told=_told(judged),
        lacking=lacking,
    )
    return inversion, tuple(moved)


def _require_question(options: MeaningOptions) -> None:
    for flag, word in (("--yes", options.yes), ("--no", options.no)):
        if not word.strip() or not word.isprintable():
            raise InputError(f"{flag} is {word!r}; expected the word that the answer begins with")
    if options.question.count(_HOLE) != 1:
        raise InputError(
            f"the question {options.question[:60]!r} has {_HOLE} {options.question.count(_HOLE)} "
            f"times; expected it once, where the instruction goes"
        )


def _readouts(run: RunContext, options: MeaningOptions) -> tuple[_Readouts, str | None]:
    """What is read, and why the question is not put; None where it is."""
    texts: dict[Dataset, list[str]] = {
        name: [one.text for one in run.sets[name].instructions][: options.n_prompts]
        for name in _SIGNS
    }
    plain: _Sides = {name: run.chat.encode(own) for name, own in texts.items()}
    try:
        words = _first_tokens(run, options)
        asked: _Sides = {
            name: run.chat.encode([options.question.replace(_HOLE, text) for text in own])
            for name, own in texts.items()
        }
    except (CannotTryError, InstructionsError) as error:
        return _Readouts(run=run, plain=plain, asked=None, words=([], [])), str(error)
    return _Readouts(run=run, plain=plain, asked=asked, words=words), None


def _first_tokens(run: RunContext, options: MeaningOptions) -> tuple[list[int], list[int]]:
    """The tokens that each answer begins with, with or without a blank in front.

    Raises:
        CannotTryError: both begin alike, or the tokenizer has none for one of them.
    """
    found: list[list[int]] = []
    for word in (options.yes, options.no):
        spelled = [
            token_ids(run.chat.tokenizer, [text])
            for text in (word, f" {word}", word.lower(), f" {word.lower()}")
        ]
        unknown = run.chat.tokenizer.unk_token_id
        found.append(sorted({ids[0] for ids in spelled if ids and ids[0] != unknown}))
    yes, no = (set(own) for own in found)
    both = yes & no
    if not (yes - both and no - both):
        raise CannotTryError(
            f"the tokenizer has no first tokens that tell {options.yes!r} from {options.no!r}"
        )
    return sorted(yes - both), sorted(no - both)


def _log_odds(
    logits: Float[Tensor, "batch d_vocab"], words: tuple[Sequence[int], Sequence[int]]
) -> Float[Tensor, " batch"]:
    """Log P(yes) - log P(no), each summed over its spellings."""
    yes, no = (logits.double().cpu()[:, list(own)].logsumexp(-1) for own in words)
    return yes - no


def _change(before: Sequence[float], after: Sequence[float]) -> Change:
    found = paired_difference(before, after, confidence=0.95)
    return Change(mean=found.difference, low=found.low, high=found.high, n=found.n)


def _told(judged: _Numbers) -> Separation | None:
    harmful, harmless = judged["harmful"], judged["harmless"]
    if min(len(harmful), len(harmless)) < 2:
        return None
    low, high = auroc_interval(harmful, harmless)
    return Separation(area=auroc(harmful, harmless), low=low, high=high)
