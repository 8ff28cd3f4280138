"""Which tasks of lm-evaluation-harness are run, and how their answers are counted."""

from dataclasses import dataclass

from refusalscope.errors import InputError
from refusalscope.results.file_names import file_name
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


def parse_task(text: str) -> HarnessTask:
    """A task as it is written on the command line: NAME or NAME:SHOTS.

    Raises:
        InputError: the shots are no number or above `MOST`, or no file can be named after it.
    """
    name, colon, shots = text.partition(":")
    is_number = shots.isascii() and shots.isdigit() and len(shots) <= len(str(MOST))
    if not name or (colon and not (is_number and int(shots) <= MOST)):
        raise InputError(f"the task {text!r} is not understood; expected NAME or NAME:SHOTS")
    file_name(name, what="the name of a task")
    return HarnessTask(name=name, shots=int(shots) if colon else None)
