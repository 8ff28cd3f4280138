"""Numbers that nobody means are refused wherever they come from: options, configs, run folders."""

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from refusalscope.errors import InputError
from refusalscope.measures.coherence.task import parse_task
from refusalscope.pipeline.evaluation_options import (
    CoherenceOptions,
    FinetuneOptions,
    JudgeOptions,
    LossOptions,
)
from refusalscope.pipeline.mechanism_options import MechanismOptions
from refusalscope.pipeline.options import RunOptions
from refusalscope.results.record import Record
from refusalscope.results.records import SelectionLimits

KINDS: tuple[Callable[..., Record], ...] = (
    RunOptions,
    MechanismOptions,
    LossOptions,
    FinetuneOptions,
    CoherenceOptions,
    SelectionLimits,
    JudgeOptions,
)


def numbers() -> list[tuple[Callable[..., Record], str, float]]:
    """Every field of every kind of options that holds a number, with values that are none."""
    rows = []
    for make in KINDS:
        for name, value in make().model_dump().items():
            annotation = str(type(make()).model_fields[name].annotation)
            if "int" in annotation and not isinstance(value, str):
                rows += [(make, name, bad) for bad in (10**18, 2**64, -1)]
            elif "float" in annotation:
                rows += [(make, name, bad) for bad in (1e39, float("nan"), float("inf"))]
    return rows


@pytest.mark.parametrize(
    ("make", "name", "bad"), numbers(), ids=lambda value: getattr(value, "__name__", str(value))
)
def test_no_field_of_options_takes_a_number_that_nobody_means(
    make: Callable[..., Record], name: str, bad: float
) -> None:
    with pytest.raises(ValidationError, match=name):
        make(**{name: bad})


def test_every_kind_of_options_is_looked_at() -> None:
    assert len(numbers()) >= 3 * 30


@pytest.mark.parametrize(
    "text",
    ["arc:1000000000000000000", "arc:²", "arc:-1", ":3", "../../x", "a\x1b[2J", "x" * 300],
)
def test_tasks_and_shots_that_nobody_means_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"not understood|the name of a task"):
        parse_task(text)
