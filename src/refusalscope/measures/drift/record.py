"""Drift along the model's own answers: evaluation/drift.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from refusalscope.errors import InputError
from refusalscope.results.files import sha256_text
from refusalscope.results.flags import Flag
from refusalscope.results.numbers import Count
from refusalscope.results.record import Record
from refusalscope.results.records import Completion, Condition
from refusalscope.results.run_records import read_run


class DriftOptions(Record):
    """How drift is measured."""

    batch_size: Annotated[Count | None, Flag("Answers in a batch; the run's if not given.")] = None


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


def baseline_answers(folder: Path) -> dict[str, list[Completion]]:
    """The baseline's answers of a run, by data set.

    Raises:
        RunFolderError: not a run.
        InputError: it has no such answer that says something.
    """
    answers: dict[str, list[Completion]] = {}
    for row in read_run(folder).completions:
        if row.condition == "baseline":
            answers.setdefault(row.dataset, []).append(row)
    if not any(row.completion for rows in answers.values() for row in rows):
        raise InputError(
            f"{folder} has no baseline answers; write them with: refusalscope complete {folder}"
        )
    return answers


def digest_of(answers: Mapping[str, Sequence[Completion]]) -> str:
    """What identifies the answers that drift is measured along."""
    rows = [row for own in answers.values() for row in own]
    return sha256_text("".join(row.to_line() for row in rows))
