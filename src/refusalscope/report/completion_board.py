"""Completions laid side by side: one row an instruction, one cell a condition.

A page must stay a page: past a budget of text, the longest completions are clipped and the last
instructions left out, and both are said where it happens. The run folder holds everything.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refusalscope.report.visible_text import visible_html
from refusalscope.report.wording import CONTROLS, condition_name, conditions_in_order
from refusalscope.results.records import Completion, Judgements
from refusalscope.results.run_records import RunRecords

TEXT_BUDGET = 640_000
"""Bytes of completions on the page, as HTML."""
MAX_CELLS = 2_000
"""Completions on the page."""
OPEN_HARMLESS = 3
"""Rows of a harmless data set that are open from the start."""

Place = tuple[str, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One completion, or one that is not there (`text` is None)."""

    condition: str
    name: str
    is_control: bool
    text: str | None
    asked: str | None
    """The instruction, where it differs from that of the row."""
    n_clipped: int
    n_tokens: int
    ended: bool
    refused: bool | None
    marks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardRow:
    """One instruction and its completions."""

    index: int
    instruction: str
    category: str | None
    pattern: int | None
    opened: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardGroup:
    """The rows of one data set; those of harmful ones stay folded."""

    dataset: str
    folded: bool
    rows: tuple[BoardRow, ...]
    n_left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """All groups, and what they can be filtered by."""

    groups: tuple[BoardGroup, ...]
    categories: tuple[str, ...]
    patterns: tuple[tuple[int, str, int], ...]
    n_instructions: int
    refusal_judge: str | None


def completion_board(
    run: RunRecords, *, text_budget: int = TEXT_BUDGET, max_cells: int = MAX_CELLS
) -> Board:
    """Lay out the completions of a run with what the judges say of them."""
    tables = _by_instruction(run.completions)
    kept = _rows_that_fit(tables, max_cells)
    shown = [row for name, rows in tables.items() for row in list(rows.values())[: kept[name]]]
    limit = longest_that_fits(
        [_cost(one.completion) for row in shown for one in row.values()], text_budget
    )
    refusal = next((record for record in run.judgements if record.measures == "refusal"), None)
    marker = _Marker.of(run.judgements, refusal)
    patterns = _Patterns()
    groups = tuple(
        _group(name, list(rows.values()), kept[name], limit, marker, patterns)
        for name, rows in tables.items()
    )
    return Board(
        groups=groups,
        categories=tuple(
            sorted({row.category for group in groups for row in group.rows if row.category})
        ),
        patterns=patterns.counted(),
        n_instructions=sum(len(group.rows) for group in groups),
        refusal_judge=refusal.judge if refusal else None,
    )


def is_harmless(dataset: str) -> bool:
    """Whether completions of a data set need no folding; in doubt they are folded."""
    return dataset.lower().startswith("harmless")


def longest_that_fits(costs: Sequence[int], budget: int) -> int:
    """The largest limit on single costs at which all of them together stay within a budget."""
    left, n_left = budget, len(costs)
    for cost in sorted(costs):
        if cost * n_left > left:
            return left // n_left
        left -= cost
        n_left -= 1
    return max(costs, default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marker:
    """Looks up what each judge says of a completion."""

    refused: Mapping[Place, bool]
    words: Mapping[Place, tuple[str, ...]]

    @classmethod
    def of(cls, records: Sequence[Judgements], refusal: Judgements | None) -> "_Marker":
        refused: dict[Place, bool] = {}
        words: dict[Place, tuple[str, ...]] = {}
        for record in records:
            yes, no = ("refused", "answered") if record.measures == "refusal" else ("safe", "unsafe")
            plain = record is refusal or record.measures == "safety"
            for row in record.rows:
                place = (row.dataset, row.condition, row.index)
                word = yes if row.flag else no
                words[place] = (
                    *words.get(place, ()),
                    word if plain else f"{word} ({record.judge})",
                )
                if record is refusal:
                    refused[place] = row.flag
        return cls(refused=refused, words=words)


class _Patterns:
    """Numbers the combinations of refused and answered as they are met."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[tuple[str, bool], ...], int] = {}
        self._counts: Counter[int] = Counter()

    def number(self, cells: Sequence[Cell]) -> int | None:
        key = tuple((cell.name, cell.refused) for cell in cells if cell.refused is not None)
        if not key:
            return None
        found = self._numbers.setdefault(key, len(self._numbers))
        self._counts[found] += 1
        return found

    def counted(self) -> tuple[tuple[int, str, int], ...]:
        rows = [(index, _pattern_name(key), self._counts[index]) for key, index in self._numbers.items()]
        return tuple(sorted(rows, key=lambda row: (-row[2], row[0])))


def _pattern_name(key: tuple[tuple[str, bool], ...]) -> str:
    refusing = [name for name, refused in key if refused]
    answering = [name for name, refused in key if not refused]
    if not refusing:
        return "answered under " + ", ".join(answering)
    if not answering:
        return "refused under " + ", ".join(refusing)
    return f"refused under {', '.join(refusing)}; answered under {', '.join(answering)}"


def _by_instruction(
    completions: Sequence[Completion],
) -> dict[str, dict[int, dict[str, Completion]]]:
    tables: dict[str, dict[int, dict[str, Completion]]] = defaultdict(lambda: defaultdict(dict))
    for one in sorted(completions, key=lambda one: (is_harmless(one.dataset), one.dataset, one.index)):
        tables[one.dataset][one.index][one.condition] = one
    return tables


def _rows_that_fit(
    tables: Mapping[str, Mapping[int, Mapping[str, Completion]]], max_cells: int
) -> dict[str, int]:
    width = {name: max(len(row) for row in rows.values()) for name, rows in tables.items()}
    costs = [len(rows) * width[name] for name, rows in tables.items()]
    limit = longest_that_fits(costs, max_cells)
    return {name: min(len(rows), limit // width[name]) for name, rows in tables.items()}


def _cost(text: str) -> int:
    return len(visible_html(text).encode("utf-8", "replace"))


def _group(
    name: str,
    rows: Sequence[Mapping[str, Completion]],
    n_kept: int,
    limit: int,
    marker: _Marker,
    patterns: _Patterns,
) -> BoardGroup:
    folded = not is_harmless(name)
    conditions = conditions_in_order({condition for row in rows for condition in row})
    return BoardGroup(
        dataset=name,
        folded=folded,
        rows=tuple(
            _row(row, conditions, limit, marker, patterns, opened=not folded and at < OPEN_HARMLESS)
            for at, row in enumerate(rows[:n_kept])
        ),
        n_left_out=len(rows) - n_kept,
    )


def _row(
    row: Mapping[str, Completion],
    conditions: Sequence[str],
    limit: int,
    marker: _Marker,
    patterns: _Patterns,
    *,
    opened: bool,
) -> BoardRow:
    first = next(row[condition] for condition in conditions if condition in row)
    cells = tuple(
        _cell(condition, row.get(condition), first.instruction, limit, marker)
        for condition in conditions
    )
    return BoardRow(
        index=first.index,
        instruction=first.instruction,
        category=first.category,
        pattern=patterns.number(cells),
        opened=opened,
        cells=cells,
    )


def _cell(
    condition: str, one: Completion | None, instruction: str, limit: int, marker: _Marker
) -> Cell:
    place = (one.dataset, condition, one.index) if one else None
    text = None if one is None else _clipped(one.completion, limit)
    return Cell(
        condition=condition,
        name=condition_name(condition),
        is_control=condition in CONTROLS,
        text=text,
        asked=one.instruction if one and one.instruction != instruction else None,
        n_clipped=len(one.completion) - len(text) if one and text is not None else 0,
        n_tokens=one.n_tokens if one else 0,
        ended=one.ended if one else True,
        refused=marker.refused.get(place) if place else None,
        marks=marker.words.get(place, ()) if place else (),
    )


def _clipped(text: str, limit: int) -> str:
    cost = _cost(text)
    return text if cost <= limit else text[: len(text) * limit // cost]
