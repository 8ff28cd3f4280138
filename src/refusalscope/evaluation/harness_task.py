"""Which tasks of lm-evaluation-harness are run, and how their answers are counted."""

import re
from dataclasses import dataclass

from refusalscope.errors import InputError
from refusalscope.results.numbers import MOST


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessTask:
    """A task of the harness by its name, or a group of tasks.

    Attributes:
        shots: Examples before each question; None is what the task says.
        metric: None is the first that the task has.
        filter: What is done to an answer before it is scored; None is the first that the task has.
    """

    name: str
    shots: int | None = None
    metric: str | None = None
    filter: str | None = None


PAPER_TASKS = (
    HarnessTask(name="mmlu", shots=5, metric="acc"),
    HarnessTask(name="tinyHellaswag", shots=10, metric="acc_norm"),
    HarnessTask(name="arc_challenge", shots=25, metric="acc_norm"),
    HarnessTask(name="winogrande", shots=5, metric="acc"),
    HarnessTask(name="gsm8k", shots=5, metric="exact_match", filter="strict-match"),
    HarnessTask(name="truthfulqa_mc2", shots=0, metric="acc"),
)
"""The six tasks of the paper's Table 8 with the shots of the Open LLM Leaderboard (v1), which the
paper names and whose values its own match; it states no shots."""

_NAME = re.compile(r"\w[\w.+-]{0,99}", re.ASCII)


def parse_task(text: str) -> HarnessTask:
    """A task as it is written on the command line: NAME or NAME:SHOTS.

    Raises:
        InputError: the name is none that a task has, or the shots are no number, or above `MOST`.
    """
    name, colon, shots = text.partition(":")
    is_number = shots.isascii() and shots.isdigit() and len(shots) <= len(str(MOST))
    if not _NAME.fullmatch(name) or (colon and not (is_number and int(shots) <= MOST)):
        raise InputError(f"the task {text!r} is not understood; expected NAME or NAME:SHOTS")
    return HarnessTask(name=name, shots=int(shots) if colon else None)
