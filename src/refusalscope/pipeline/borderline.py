"""Borderline instructions of a run: safe ones that look harmful, from a file or a language."""

from pathlib import Path

from refusalscope.data.instruction import Instruction
from refusalscope.data.sources import read_file_or_source
from refusalscope.organisms.borderline import borderline
from refusalscope.pipeline.context import RunContext

LANGUAGE = "the organism's language"


def borderline_of(run: RunContext, source: str | None, *, n: int) -> list[Instruction]:
    """The borderline instructions, each once; none where there is nowhere to have them from.

    Args:
        source: A file, or a data set's name; None is an organism's own language.
        n: How many, at most.

    Raises:
        InstructionsError: the file is none of instructions.
    """
    if source is not None:
        folder = None if run.options.datasets is None else Path(run.options.datasets)
        read = read_file_or_source(source, folder).instructions
        return [*{one.text: one for one in read}.values()][:n]
    if run.language is None:
        return []
    drawn = borderline(run.language, n=n, seed=run.options.seed)
    return [Instruction(one.instruction, one.form) for one in drawn]
