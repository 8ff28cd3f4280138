"""What the direction means, on the page, in the summary and on the command line."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from refusalscope.measures.meaning.record import (
    Change,
    Concept,
    Dataset,
    Features,
    Meaning,
    Moved,
    Moving,
    VocabularyView,
)
from refusalscope.report.section import Section
from refusalscope.report.table import Table
from refusalscope.report.visible_text import token_label, visible_plain
from refusalscope.report.wording import NOT_MEASURED, number, percent, position_name, signed

_VIEWS = {"unembedding": "unembedding", "final norm": "final norm and unembedding"}
_UNDERSTOOD = 0.7
"""Of the AUROC: below this a model does not understand the question."""
_IN_SHORT = 8
"""Tokens in a line of the terminal."""


def section(records: Sequence[Meaning]) -> Section | None:
    """Up to four tables."""
    (found,) = records
    features = () if found.features is None else (_feature_table(found.features),)
    n = len(found.concepts.rows) + sum(1 + (one.judged is not None) for one in found.moved)
    return Section(
        tables=(_token_table(found), _concept_table(found), _moved_table(found), *features),
        n_intervals=n + (found.inversion.told is not None),
    )


def summary(records: Sequence[Meaning]) -> Mapping[str, object]:
    """Cosines, and what moves what."""
    (found,) = records
    return {
        "harmfulness_cosine": found.harmfulness_cosine,
        "question_auroc": None if found.inversion.told is None else found.inversion.told.area,
        "concepts": {one.name: one.cosine for one in found.concepts.rows},
        "explained": None if found.features is None else found.features.rows[-1].explained,
    }


def lines(records: Sequence[Meaning]) -> Iterator[str]:
    """Tokens, concepts, and the two sentences on harmfulness."""
    (found,) = records
    for view in found.vocabulary:
        shown = " ".join(token_label(one.text) for one in view.promoted[:_IN_SHORT])
        yield f"promoted through the {_VIEWS[view.view]}: {shown}"
    for one in found.concepts.rows:
        yield (
            f"{one.name} ({one.n} of {one.n + one.n_others}): cosine {one.cosine:.2f}, "
            f"random groups {one.chance.low:.2f} to {one.chance.high:.2f}"
        )
    yield question_verdict(found)
    yield moved_verdict(found)
    if found.features is not None:
        yield features_verdict(found.features)


def question_verdict(found: Meaning) -> str:
    """Whether the model understands what it is asked of harm."""
    inversion = found.inversion
    if inversion.lacking is not None:
        return f"Whether an instruction does harm was not asked: {inversion.lacking}."
    told = inversion.told
    if told is None:
        return "There are too few instructions to say whether the model knows which do harm."
    words = (
        f"asked whether an instruction does harm, the model tells harmful from harmless ones with "
        f"an AUROC of {number(told.area, 2)} ({number(told.low, 2)} to {number(told.high, 2)})"
    )
    if told.low < _UNDERSTOOD:
        return (
            f"The question is hardly understood: {words}; what moves its answer says nothing here."
        )
    return f"{words[0].upper()}{words[1:]}."


def moved_verdict(found: Meaning) -> str:
    """Whether refusal and the judgement of harm are moved by the same direction."""
    cosine = found.harmfulness_cosine
    if cosine is None:
        return "At this layer the last tokens of the instructions do not tell harm."
    words = (
        f"The direction of harmfulness, read at the instruction's last token, has a cosine of "
        f"{number(cosine, 2)} with r."
    )
    told = found.inversion.told
    if told is None or told.low < _UNDERSTOOD:
        return words
    by: dict[Moving, bool] = {
        name: any(_judges(found, one) for one in found.moved if one.direction == name)
        for name in ("refusal", "harmfulness")
    }
    if by["harmfulness"] and not by["refusal"]:
        return f"{words} It moves what the model judges harmful; r moves refusing alone."
    if by["harmfulness"]:
        return f"{words} Both move what the model judges harmful."
    if by["refusal"]:
        return f"{words} r moves what the model judges harmful, the direction of harmfulness not."
    return f"{words} Neither moves what the model judges harmful in the direction it is moved."


def _judges(found: Meaning, one: Moved) -> bool:
    """Whether the judgement goes where the direction is moved, further than by its control."""
    if one.is_control or one.judged is None or one.judged.low is None or one.judged.high is None:
        return False
    ends = [
        (other.judged.low, other.judged.high)
        for other in found.moved
        if other.is_control and other.judged is not None
        if (other.dataset, other.direction) == (one.dataset, one.direction)
    ]
    if one.dataset == "harmless":
        return one.judged.low > max([0.0, *(high for _, high in ends if high is not None)])
    return one.judged.high < min([0.0, *(low for low, _ in ends if low is not None)])


def features_verdict(found: Features) -> str:
    """How much of the direction a few features make up."""
    last = found.rows[-1]
    return (
        f"{len(found.rows)} of {found.n_features} features make up {percent(last.explained)} of "
        f"the direction's squared length, {percent(found.chance)} of a random direction's."
    )


def _token_table(found: Meaning) -> Table:
    columns = [column for view in found.vocabulary for column in _view_columns(view)]
    met = [f"{_quoted(one.text)} {number(one.projection, 1)}" for one in found.words]
    columns.append(("Instructions", met))
    n = next((view.n for view in found.vocabulary if view.n is not None), 0)
    return Table(
        title="What the direction says: tokens",
        caption=(
            f"Tokens whose logit rises (+) or falls (\N{MINUS SIGN}) most, from the mean over all "
            f"tokens: by the unembedding applied to the unit direction; and, measured through the "
            f"final norm too, when the direction is added to what leaves the last layer (mean over "
            f"{n} harmless instructions). The direction was read at position "
            f"{position_name(found.position)}, layer {found.layer}, and layers between may make "
            f"something else of it. Last, the tokens of test instructions, met at least twice, "
            f"with the largest mean projection at that layer."
        ),
        header=("Rank", *(name for name, _ in columns)),
        rows=tuple(
            (str(rank), *cells)
            for rank, cells in enumerate(
                zip_longest(*(texts for _, texts in columns), fillvalue=""), start=1
            )
        ),
    )


def _view_columns(view: VocabularyView) -> Iterator[tuple[str, list[str]]]:
    name = _VIEWS[view.view].partition(" and ")[0].capitalize()
    for sign, side in (("+", view.promoted), ("\N{MINUS SIGN}", view.suppressed)):
        yield f"{name} {sign}", [f"{_quoted(one.text)} {signed(one.value, 1)}" for one in side]


def _quoted(text: str) -> str:
    return f"\N{LEFT DOUBLE QUOTATION MARK}{token_label(text)}\N{RIGHT DOUBLE QUOTATION MARK}"


def _concept_table(found: Meaning) -> Table:
    concepts = found.concepts
    rows = tuple(_concept_row(one) for one in concepts.rows)
    lacking = "" if concepts.lacking is None else f" None was made: {concepts.lacking}."
    return Table(
        title="What the direction lies near: concepts",
        caption=(
            f"A concept is a category of {visible_plain(concepts.source)}; its direction is the "
            f"difference in means from all others, at the run's place. Beside its cosine with r "
            f"stands where 95 % of the cosines of random pairs of groups of the same sizes "
            f"lie.{lacking}"
        ),
        header=("Concept", "Instructions", "Cosine with r", "Random groups"),
        rows=rows or (("none", "", NOT_MEASURED, NOT_MEASURED),),
    )


def _concept_row(one: Concept) -> tuple[str, ...]:
    is_beyond = not one.chance.low <= one.cosine <= one.chance.high
    return (
        visible_plain(one.name),
        f"{one.n}\nagainst {one.n_others}",
        f"{number(one.cosine, 2)}\n{'beyond' if is_beyond else 'within'} chance",
        f"{number(one.chance.low, 2)} to {number(one.chance.high, 2)}",
    )


def _moved_table(found: Meaning) -> Table:
    inversion = found.inversion
    asked = (
        f"Judged harmful: log-odds of answering {_quoted(inversion.yes)} rather than "
        f"{_quoted(inversion.no)} to a question that asks whether the instruction does harm (reply "
        f"inversion, Zhao et al. 2025)."
    )
    return Table(
        title="Harm apart from refusal",
        caption=(
            f"Mean change, in nats, when a direction is added at layer {found.layer} to every "
            f"token of a harmless instruction, or subtracted from a harmful one, beside a random "
            f"direction of the same length. {asked} {question_verdict(found)} "
            f"{moved_verdict(found)} Small: 95 % intervals."
        ),
        header=("Instructions", "Direction", "Refusal metric", "Judged harmful"),
        rows=tuple(_moved_row(one) for one in found.moved),
    )


_DONE: dict[Dataset, str] = {"harmless": "added", "harmful": "subtracted"}
_NAMES: dict[Moving, str] = {"refusal": "r", "harmfulness": "harmfulness"}


def _moved_row(one: Moved) -> tuple[str, ...]:
    name = _NAMES[one.direction]
    shown = f"random, as long as {name}\ncontrol" if one.is_control else name
    return (
        f"{one.dataset}\n{_DONE[one.dataset]}, n = {one.refusal.n}",
        shown,
        _change(one.refusal),
        NOT_MEASURED if one.judged is None else _change(one.judged),
    )


def _change(one: Change) -> str:
    if one.low is None or one.high is None:
        return f"{signed(one.mean, 2)}\nof one instruction"
    return f"{signed(one.mean, 2)}\n{signed(one.low, 2)} to {signed(one.high, 2)}"


def _feature_table(found: Features) -> Table:
    return Table(
        title="The direction as a sum of features",
        caption=(
            f"Orthogonal matching pursuit on the decoder of {visible_plain(found.source)}: each "
            f"row adds the feature most along what is left. {features_verdict(found)}"
        ),
        header=("Feature", "Cosine with r", "Made up so far"),
        rows=tuple(
            (str(one.index), number(one.cosine, 2), percent(one.explained)) for one in found.rows
        ),
    )
