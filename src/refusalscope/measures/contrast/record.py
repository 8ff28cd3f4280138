"""What the direction tells apart: words, harm, or the model's own refusals.

measures/contrast.json.
"""

from typing import Annotated, Literal

from pydantic import Field

from refusalscope.results.contrast_records import Separation
from refusalscope.results.flags import Flag
from refusalscope.results.numbers import Seed
from refusalscope.results.record import Record
from refusalscope.results.records import ScoreInterval


class ContrastOptions(Record):
    """How often pairs are drawn anew."""

    seed: Annotated[Seed, Flag("Seed of the resamples.")] = 0


class MatchedPairs(Record):
    """Harmful training instructions, each beside the harmless one that is most like it in words.

    Attributes:
        n: Pairs whose harmful one the model refuses and whose harmless one it answers.
        n_pool: Harmless instructions that were looked through.
        similarity: Mean cosine of the words of a pair.
        words: How well bags of words tell the two sides of the pairs apart, each half of the pairs
            scored by counts of the other.
        words_before: The same of as many instructions of the run's own training sets.
        cosine: Of the difference in means of the pairs with the run's direction, at its place.
        cosine_interval: 95 %, over resampled pairs.
    """

    n: int
    n_pool: int
    similarity: float
    words: Separation | None
    words_before: Separation | None
    cosine: float
    cosine_interval: ScoreInterval


class Detection(Record):
    """How well the projection on one candidate reads what the model does, on test instructions.

    Attributes:
        refusals: Harmful instructions that are refused against those that are not; None where
            either is fewer than two.
        harm: Harmful instructions against harmless ones, whatever the model does.
        bypass: Of the candidate, where the choice knows it; `induce` likewise.
    """

    position: int
    layer: int
    refusals: Separation | None
    harm: Separation
    bypass: float | None
    induce: float | None


class ContrastMeasure(Record):
    """measures/contrast.json.

    Attributes:
        pairs: None where fewer than two pairs can be made.
        n_refused: Harmful test instructions that the model refuses, by the judge that decides.
        n_answered: Harmful ones that it does not.
        detection: Every candidate that is not zero, positions first.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    position: int
    layer: int
    pairs: MatchedPairs | None
    judge: str
    n_refused: int
    n_answered: int
    n_harmless: int
    detection: tuple[Detection, ...]
