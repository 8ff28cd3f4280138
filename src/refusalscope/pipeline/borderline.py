"""Borderline instructions of a run: safe ones that look harmful, from a file or a language."""

from refusalscope.data.instruction import Instruction
from refusalscope.organisms.borderline import borderline
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.instructions import read_given

LANGUAGE = "the organism's language"
WITHOUT = (
    "no borderline instructions were given; give a file with --borderline (XSTest's safe ones)"
)


def borderline_of(run: RunContext, source: str | None, *, n: int) -> list[Instruction]:
    """The borderline instructions, each once; none where there is nowhere to have them from.

    Args:
        source: A file, or a data set's name; None is an organism's own language.
        n: How many, at most.

    Raises:
        InstructionsError: the file is none of instructions.
    """
    if source is not None:
        read = read_given(source, run.options).instructions
        return [*{one.text: one for one in read}.values()][:n]
    if run.language is None:
        return []
    drawn = borderline(run.language, n=n, seed=run.options.seed)
    return [Instruction(one.instruction, one.form) for one in drawn]
