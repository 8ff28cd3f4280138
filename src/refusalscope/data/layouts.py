"""Which column of a file of instructions is which: layouts of known benchmarks, and common names.

Data and one pure function. A layout is recognised by its columns alone, never by a file's name.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from refusalscope.data.instruction import quoted
from refusalscope.errors import InstructionsError

INSTRUCTION_COLUMNS = (
    *("instruction", "goal", "prompt", "behavior", "question", "query", "request"),
    *("forbidden_prompt", "user_input", "user_prompt", "harmful_prompt"),
)
"""Columns that are taken for the instruction, in any case; a file may have one of them."""
LESS_LIKELY_COLUMNS = (
    "text",
    "input",
    "task",
    "turns",
    "conversations",
    "conversation",
    "messages",
)
"""Taken for it where there is none of the above."""
CATEGORY_COLUMNS = ("category", "harm_category", "semanticcategory")
"""Columns that are taken for the category, in any case; a file may have one of them or none."""
SECOND_COLUMNS = ("input", "context", "contextstring")
"""Columns, in any case, of a text without which the instruction is not whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The columns of a row that are read."""

    instruction: str
    category: str | None = None
    second: str | None = None
    """A text that belongs to the instruction; a row that has one is left out."""
    is_given: bool = False
    """Whether the user named the column of the instruction: then no row is left out."""


_KNOWN: tuple[tuple[frozenset[str], Layout], ...] = tuple(
    (frozenset(columns), Layout(instruction=instruction, category=category, second=second))
    for columns, instruction, category, second in (
        # JailbreakBench, in its own CSV, where "Behavior" is a title.
        (("goal", "behavior", "category"), "goal", "category", None),
        # AdvBench and what is made from it
        (("goal", "target"), "goal", None, None),
        # HarmBench
        (("behavior", "semanticcategory"), "behavior", "semanticcategory", "contextstring"),
        # XSTest
        (("prompt", "type", "focus"), "prompt", "type", None),
        # Do-Not-Answer
        (("question", "risk_area"), "question", "risk_area", None),
        # SALAD-Bench
        (("question", "1-category"), "question", "1-category", None),
        # WildJailbreak: a row whose request is dressed up has it twice.
        (("vanilla", "adversarial"), "vanilla", "data_type", "adversarial"),
        (("adversarial", "data_type"), "adversarial", "data_type", None),
    )
)
"""Layouts that the common names would not tell, by the columns, in lower case, that give them
away."""


def layout_of(columns: Sequence[str], *, given: Sequence[str], place: str) -> Layout:
    """Which columns are the instruction, the category and a second text.

    Args:
        given: Names of which a file must have one: that is its instruction then.

    Raises:
        InstructionsError: no column could be the instruction, or several could be it; names
            `place`.
    """
    own = {name.lower(): name for name in columns}
    known = next((layout for names, layout in _KNOWN if names <= set(own)), None)
    if given:
        instruction = _one_of(columns, given, place=place)
        if instruction is None:
            raise InstructionsError(
                f"{place} has {listed(columns)} and none of --column {', '.join(given)}; name the "
                f"column of the instruction, and repeat --column where files have columns of "
                f"their own"
            )
    else:
        instruction = own[known.instruction] if known else _likely(columns, place=place)
    if known and known.category:
        category = own.get(known.category)
    else:
        category = _one_of(columns, CATEGORY_COLUMNS, place=place, in_any_case=True)
    seconds = (known.second,) if known and known.second else SECOND_COLUMNS
    others = [name for name in columns if name != instruction]
    return Layout(
        instruction=instruction,
        category=category if category in others else None,
        second=next((name for name in others if name.lower() in seconds), None),
        is_given=bool(given),
    )


def listed(columns: Sequence[str]) -> str:
    """The names of columns, for a message."""
    names = quoted(", ".join(columns), width=80)
    return f"the columns {names}" if columns else "no columns"


def _likely(columns: Sequence[str], *, place: str) -> str:
    """The column whose name says that it is the instruction."""
    for names in (INSTRUCTION_COLUMNS, LESS_LIKELY_COLUMNS):
        found = _one_of(columns, names, place=place, in_any_case=True)
        if found is not None:
            return found
    raise InstructionsError(
        f"{place} has {listed(columns)} and none of {', '.join(INSTRUCTION_COLUMNS)}; name the "
        f"column of the instruction with --column"
    )


def _one_of(
    columns: Sequence[str], names: Sequence[str], *, place: str, in_any_case: bool = False
) -> str | None:
    present = [own for own in columns if (own.lower() if in_any_case else own) in names]
    if len(present) > 1:
        raise InstructionsError(
            f"{place} has both {' and '.join(present)}, and either could be meant; name the one "
            f"that is with --column, or keep one of them"
        )
    return present[0] if present else None
