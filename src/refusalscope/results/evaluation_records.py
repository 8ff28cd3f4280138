"""Records beside the judgements: coherence flags, agreement of judges, the four combinations."""

from typing import Literal

from pydantic import Field

from refusalscope.results.record import Record
from refusalscope.results.records import Condition, Measure


class CompletionFlags(Record):
    """Signs that one completion is no coherent text; none for ordinary text."""

    index: int
    dataset: str
    condition: Condition
    flags: tuple[Literal["empty", "repeating", "cut"], ...]


class CoherenceFlags(Record):
    """evaluation/coherence_flags.json: the flags of every completion of a run."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    rows: tuple[CompletionFlags, ...]


class PairAgreement(Record):
    """How far two judges of one measure agree on the completions that both gave a verdict on.

    Attributes:
        dataset: None for all data sets together.
        n_left_out: Completions where one or both gave none.
        both_true: Counts of the four pairs of verdicts, the first judge's first.
        kappa: Cohen's kappa; None where it is not defined, all verdicts of both being the same.
        low: Of the 95 % interval; None with kappa.
    """

    measure: Measure
    first: str
    second: str
    dataset: str | None
    n: int
    n_left_out: int
    both_true: int
    first_only: int
    second_only: int
    both_false: int
    observed: float
    kappa: float | None
    low: float | None
    high: float | None


class Place(Record):
    """Which completion of a run."""

    dataset: str
    condition: Condition
    index: int


class Combination(Record):
    """The completions with one pair of verdicts (the paper's Figures 14 to 16)."""

    refusal: bool
    safe: bool
    places: tuple[Place, ...]


class Combinations(Record):
    """The four combinations of one refusal judge and one safety judge."""

    refusal_judge: str
    safety_judge: str
    n_left_out: int
    """Completions that one or both gave no verdict on."""
    combinations: tuple[Combination, ...]


class Agreement(Record):
    """evaluation/agreement.json."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    pairs: tuple[PairAgreement, ...]
    combinations: tuple[Combinations, ...]
