"""Completions laid side by side: one row an instruction, one cell a condition.

A page must stay a page: past a budget of text, the longest completions are clipped and the last
instructions left out, and both are said where it happens. The run folder holds everything.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from refusalscope.report.completion_marks import (
    NOT_JUDGED,
    Judge,
    Marks,
    Pattern,
    count_patterns,
    pattern_name,
    pattern_of,
    read_marks,
)
from refusalscope.report.projected_text import Projected, marked_tokens, projected_answers
from refusalscope.report.text_budget import clipped, html_bytes, longest_that_fits
from refusalscope.report.wording import CONTROLS, condition_name, conditions_in_order
from refusalscope.results.projection_records import AnswerProjections
from refusalscope.results.records import Completion
from refusalscope.results.run_records import RunRecords

TEXT_BUDGET = 1_800_000
"""Bytes of instructions and completions on the page, as HTML."""
MAX_CELLS = 3_000
"""Completions on the page."""
OPEN_HARMLESS = 3
"""Rows of a harmless data set that are open from the start."""

RowOfRun = Mapping[str, Completion]
"""The completions of one instruction by condition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One completion, or one that is not there (`text` is None)."""

    condition: str
    name: str
    is_control: bool
    text: str | None
    withheld: bool
    """It was written, but the copy of an imported run leaves it out."""
    asked: str | None
    """The instruction, where it differs from that of the row."""
    n_clipped: int
    """Characters of the completion that are not shown."""
    n_tokens: int | None
    ended: bool | None
    refused: bool | None
    marks: tuple[str, ...]
    verdicts: str
    """One letter a judge of the board; see `completion_marks.Marks.codes`."""
    tokens: Markup | None = None
    """The text with each token marked, where the stream was projected there."""
    projection: int | None = None
    """Which answer of the projections it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardRow:
    """One instruction and its completions."""

    index: int
    instruction: str
    n_clipped: int
    """Characters of the instruction that are not shown."""
    category: str | None
    pattern: int | None
    opened: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardGroup:
    """The rows of one data set; those of harmful ones are closed."""

    dataset: str
    rows: tuple[BoardRow, ...]
    n_left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """All groups, and what they can be filtered by."""

    groups: tuple[BoardGroup, ...]
    categories: tuple[str, ...]
    patterns: tuple[tuple[int, str, int], ...]
    """Number, name and count."""
    n_instructions: int
    refusal_judge: str | None
    judges: tuple[Judge, ...]
    conditions: tuple[tuple[str, str], ...]
    """Every condition of the board, and its name."""

    @property
    def has_projections(self) -> bool:
        """Whether any text on the board can be coloured."""
        cells = (cell for group in self.groups for row in group.rows for cell in row.cells)
        return any(cell.tokens is not None for cell in cells)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """What every cell needs to know of the whole board."""

    limit: int
    marks: Marks
    numbers: Mapping[Pattern, int]
    projected: Mapping[tuple[str, str, int], Projected]


def completion_board(
    run: RunRecords,
    projections: AnswerProjections | None = None,
    *,
    text_budget: int = TEXT_BUDGET,
    max_cells: int = MAX_CELLS,
) -> Board:
    """Lay out the completions of a run with what the judges say of them."""
    tables = _by_instruction(run.completions)
    kept = _rows_that_fit(tables, max_cells)
    shown = [(name, row) for name, rows in tables.items() for row in rows[: kept[name]]]
    marks = read_marks(run.judgements, run.flags, run.summary)
    counted = count_patterns(
        pattern_of(row, conditions_in_order(set(row)), marks) for _, row in shown
    )
    rules = _Rules(
        limit=longest_that_fits(_costs([row for _, row in shown]), text_budget),
        marks=marks,
        numbers={pattern: at for at, (pattern, _) in enumerate(counted)},
        projected=projected_answers(projections),
    )
    groups = tuple(_group(name, rows, kept[name], rules) for name, rows in tables.items())
    categories = {row.category for group in groups for row in group.rows if row.category}
    return Board(
        groups=groups,
        categories=tuple(sorted(categories)),
        patterns=tuple((at, pattern_name(key), n) for at, (key, n) in enumerate(counted)),
        n_instructions=len(shown),
        refusal_judge=marks.refusal_judge,
        judges=marks.judges,
        conditions=tuple(
            (name, condition_name(name))
            for name in conditions_in_order({name for _, row in shown for name in row})
        ),
    )


def is_harmless(dataset: str) -> bool:
    """Whether completions of a data set need no folding; in doubt they are folded."""
    return dataset.lower().startswith("harmless")


def _by_instruction(completions: Sequence[Completion]) -> dict[str, list[RowOfRun]]:
    tables: dict[str, dict[int, dict[str, Completion]]] = defaultdict(lambda: defaultdict(dict))
    for one in completions:
        tables[one.dataset][one.index][one.condition] = one
    return {
        name: [tables[name][index] for index in sorted(tables[name])]
        for name in sorted(tables, key=lambda name: (is_harmless(name), name))
    }


def _rows_that_fit(tables: Mapping[str, Sequence[RowOfRun]], max_cells: int) -> dict[str, int]:
    width = {name: max(len(row) for row in rows) for name, rows in tables.items()}
    limit = longest_that_fits([len(rows) * width[name] for name, rows in tables.items()], max_cells)
    return {name: min(len(rows), limit // width[name]) for name, rows in tables.items()}


def _costs(rows: Sequence[RowOfRun]) -> list[int]:
    asked = [html_bytes(next(iter(row.values())).instruction) for row in rows]
    return asked + [html_bytes(one.completion or "") for row in rows for one in row.values()]


def _group(name: str, rows: Sequence[RowOfRun], n_kept: int, rules: _Rules) -> BoardGroup:
    conditions = conditions_in_order({condition for row in rows for condition in row})
    n_open = OPEN_HARMLESS if is_harmless(name) else 0
    return BoardGroup(
        dataset=name,
        rows=tuple(
            _row(row, conditions, rules, opened=at < n_open) for at, row in enumerate(rows[:n_kept])
        ),
        n_left_out=len(rows) - n_kept,
    )


def _row(row: RowOfRun, conditions: Sequence[str], rules: _Rules, *, opened: bool) -> BoardRow:
    first = next(row[condition] for condition in conditions if condition in row)
    instruction = clipped(first.instruction, rules.limit)
    pattern = pattern_of(row, conditions, rules.marks)
    return BoardRow(
        index=first.index,
        instruction=instruction,
        n_clipped=len(first.instruction) - len(instruction),
        category=first.category,
        pattern=None if pattern is None else rules.numbers[pattern],
        opened=opened,
        cells=tuple(
            _cell(row[condition], first.instruction, rules)
            if condition in row
            else _absent(condition)
            for condition in conditions
        ),
    )


def _cell(one: Completion, instruction: str, rules: _Rules) -> Cell:
    place = (one.dataset, one.condition, one.index)
    text = None if one.completion is None else clipped(one.completion, rules.limit)
    projected = rules.projected.get(place)
    tokens = marked_tokens(projected, one.completion, shown=text) if projected else None
    return Cell(
        condition=one.condition,
        name=condition_name(one.condition),
        is_control=one.condition in CONTROLS,
        text=text,
        withheld=text is None,
        asked=None if one.instruction == instruction else clipped(one.instruction, rules.limit),
        n_clipped=len(one.completion or "") - len(text or ""),
        n_tokens=one.n_tokens,
        ended=one.ended,
        refused=rules.marks.refused.get(place),
        marks=rules.marks.words.get(place, ()),
        verdicts=rules.marks.codes.get(place, NOT_JUDGED * len(rules.marks.judges)),
        tokens=tokens,
        projection=projected.number if projected and tokens is not None else None,
    )


def _absent(condition: str) -> Cell:
    return Cell(
        condition=condition,
        name=condition_name(condition),
        is_control=condition in CONTROLS,
        text=None,
        withheld=False,
        asked=None,
        n_clipped=0,
        n_tokens=0,
        ended=True,
        refused=None,
        marks=(),
        verdicts="",
    )
