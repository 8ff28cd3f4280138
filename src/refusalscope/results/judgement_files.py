"""The files of a run's judges: which they are, and that none lacks a part of what it counts."""

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from refusalscope.errors import RunFolderError
from refusalscope.results.deciding_judge import DECIDING_JUDGES
from refusalscope.results.evaluation_records import CompletionFlags
from refusalscope.results.outcomes import AnswerSigns
from refusalscope.results.plain_folder import record_text
from refusalscope.results.records import Completion, Condition, Judgement, Judgements

_FIELDS = frozenset({"judge", "rows"})


def read_judge_files(
    folder: Path, *, others: Collection[Path] = ()
) -> tuple[dict[Path, Judgements], list[Path]]:
    """The judgements in a folder by file, and the files that are no judge's.

    Args:
        others: Files of the folder that are known to be other records; they are in neither list.

    Raises:
        RunFolderError: a judge's file is damaged, or a file is no JSON.
    """
    found: dict[Path, Judgements] = {}
    unknown: list[Path] = []
    for path in sorted(folder.glob("*.json")):
        if path in others:
            continue
        text = record_text(path)
        if _is_a_judges(path, text):
            found[path] = Judgements.from_json(text, source=str(path))
        else:
            unknown.append(path)
    return found, unknown


def _is_a_judges(path: Path, text: str) -> bool:
    """Whether a file is to be read as a judge's: it says so, or cannot say what it is."""
    if path.stem in DECIDING_JUDGES:
        return True
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return True
    return isinstance(fields, dict) and not _FIELDS.isdisjoint(fields)


def require_each_once(
    path: Path,
    rows: Iterable[Judgement | CompletionFlags | AnswerSigns],
    completions: Sequence[Completion],
) -> None:
    """Refuse rows that leave out, or have twice, one of the completions that they are about.

    Data sets and conditions that have no row at all were not judged, which is no damage; neither
    are those whose completions are not there.

    Args:
        path: Where the rows come from.

    Raises:
        RunFolderError: names the first data set and condition, and the first completion.
    """
    there: dict[tuple[str, Condition], set[int]] = {}
    for one in completions:
        there.setdefault((one.dataset, one.condition), set()).add(one.index)
    said: dict[tuple[str, Condition], list[int]] = {}
    for row in rows:
        said.setdefault((row.dataset, row.condition), []).append(row.index)
    for place, indices in said.items():
        wanted = there.get(place)
        if wanted is None or sorted(indices) == sorted(wanted):
            continue
        odd = min(wanted.symmetric_difference(indices), default=None)
        first = f"first {odd}" if odd is not None else "one stands twice"
        raise RunFolderError(
            f"{path} is cut or was changed: it has {len(indices)} rows of the {len(wanted)} "
            f"completions of {place[0]}, {place[1]} ({first}); get it back from a copy, or move it "
            f"away and judge the run anew: no rate is computed from a part"
        )
