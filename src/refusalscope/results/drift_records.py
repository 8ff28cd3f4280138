"""Drift along the model's own answers: evaluation/drift.json."""

from typing import Literal

from pydantic import Field

from refusalscope.results.record import Record
from refusalscope.results.records import Condition


class TokenDrift(Record):
    """KL at one place of the answers, over the answers that are so long.

    Attributes:
        token: 1 for the first token of an answer.
        mean: In nats.
        sd: Of the sample; None for one answer.
        n: Number of answers.
    """

    token: int
    mean: float
    sd: float | None
    n: int


class ConditionDrift(Record):
    """KL(baseline || condition) along the baseline's answers to one data set, in nats.

    Attributes:
        n_texts: Answers with at least one token.
        n_empty: Answers without, which are left out.
        mean: Over all tokens of all answers, each token counted once.
        first_token: At the first tokens, exact.
        paper_first_token: The same by the formula of the paper's code.
    """

    dataset: str
    condition: Condition
    n_texts: int
    n_empty: int
    n_tokens: int
    mean: float
    first_token: float
    paper_first_token: float
    by_token: tuple[TokenDrift, ...]


class Drift(Record):
    """evaluation/drift.json."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    sha256: str
    """Of the answers."""
    rows: tuple[ConditionDrift, ...]
