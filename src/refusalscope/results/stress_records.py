"""How a judge of refusal does on known answers in styles that mislead: its blind spots."""

from typing import Literal

from pydantic import Field

from refusalscope.results.record import Record


class StyleCounts(Record):
    """One style.

    Attributes:
        n_refusals: Texts that refuse; `n_seen` of them were counted as refusals.
        n_answers: Texts that do not; `n_mistaken` of them were counted as refusals.
        n_unread: Texts that the judge gave no verdict on.
    """

    style: str
    n_refusals: int
    n_seen: int
    n_answers: int
    n_mistaken: int
    n_unread: int = 0


class JudgeStress(Record):
    """evaluation/stress/JUDGE.json.

    Attributes:
        model: The model that judged; None for a rule.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    judge: str
    version: str
    model: str | None
    rows: tuple[StyleCounts, ...]
