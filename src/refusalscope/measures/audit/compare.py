"""Audits of several models in one table: `report audits`.

Every model beside the first: the shares refused on each rung and on each kind of instruction, and
their changes over the same instructions, paired where both were asked the same texts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from refusalscope.directions.direction import load_direction
from refusalscope.errors import InputError
from refusalscope.measures.audit.compare_page import render_audits
from refusalscope.measures.ladder.page import in_order, rung_name
from refusalscope.measures.ladder.record import Rung, rank_of
from refusalscope.measures.over_refusal.record import Asked, OverRefusal
from refusalscope.metrics.rate_change import paired_change, unpaired_change
from refusalscope.pipeline.outcomes import own_outcomes
from refusalscope.results.audit_comparison import (
    AuditComparison,
    ComparedAudit,
    ComparedCell,
    ComparedRow,
)
from refusalscope.results.audit_records import AUDIT, Audit
from refusalscope.results.borderline_options import BORDERLINE
from refusalscope.results.files import new_folder, write_file
from refusalscope.results.measures import FOLDER, measure_named
from refusalscope.results.outcomes import Outcome, refused_by_index, shares_of
from refusalscope.results.plain_folder import require_plain_folder
from refusalscope.results.rate_change import RateChange
from refusalscope.results.records import DirectionFacts, Rate, RunManifest
from refusalscope.results.run_records import (
    COMPLETIONS,
    DIRECTION,
    DIRECTION_TENSOR,
    RUN,
    read_completions,
    read_if_there,
    read_record,
)

RECORD = "audits.json"
PAGE = "audits.html"
KINDS = ("harmful", "harmless", BORDERLINE)
_HALF = 0.5

_Outcomes = tuple[Outcome | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What the folder of an audit has of it.

    Attributes:
        manifest: Of the run.
        asked: The texts of each kind of instruction, in their order; None where they are not known.
        outcomes: Of each kind, the model as it is.
    """

    folder: Path
    record: Audit
    manifest: RunManifest
    rungs: list[Rung]
    over: OverRefusal | None
    direction: DirectionFacts | None
    asked: dict[str, tuple[str, ...] | None]
    outcomes: dict[str, _Outcomes]


def compare_audits(folders: Sequence[Path], out: Path) -> AuditComparison:
    """Compare audits, and leave `audits.html` and `audits.json` in a new folder `out`.

    Raises:
        InputError: a folder is named twice.
        RunFolderError: one of them is no audit, or a file is damaged.
        OutputError: `out` exists already.
    """
    found = compared(folders)
    with new_folder(out) as folder:
        write_file(folder / RECORD, found.to_json())
        write_file(folder / PAGE, render_audits(found))
    return found


def compared(folders: Sequence[Path]) -> AuditComparison:
    """The comparison, nothing written.

    Raises:
        InputError: a folder is named twice.
        RunFolderError: one of them is no audit, or a file is damaged.
    """
    real = [folder.resolve() for folder in folders]
    for i, folder in enumerate(folders):
        if real[i] in real[:i]:
            raise InputError(f"{folder} was given twice; name each audit once")
    read = [_read(folder) for folder in folders]
    labels = _labels(read)
    return AuditComparison(
        audits=tuple(_in_short(*one) for one in zip(read, labels, strict=True)),
        kinds=tuple(_kind_row(name, read) for name in KINDS),
        rungs=tuple(_rung_row(name, read) for name in _rung_names(read)),
        cosines=_cosines(folders),
        not_alike=tuple(_not_alike(read, labels)),
    )


def _labels(read: Sequence[_Read]) -> list[str]:
    """Names of the models, with the folders' names, or whole, behind them where they are alike."""
    names = [one.record.model.name for one in read]
    places: tuple[Callable[[Path], str], ...] = (lambda folder: folder.resolve().name, str)
    for place in places:
        alike = {name for name in names if names.count(name) > 1}
        names = [
            f"{one.record.model.name} ({place(one.folder)})" if name in alike else name
            for one, name in zip(read, names, strict=True)
        ]
    return names


def _read(folder: Path) -> _Read:
    if folder.is_dir():
        require_plain_folder(folder)
    record = read_record(Audit, folder / AUDIT)
    over = _over_refusal(folder)
    answers = {
        **{name: folder / COMPLETIONS / f"{name}.baseline.jsonl" for name in KINDS[:2]},
        BORDERLINE: folder / FOLDER / "over-refusal" / "answers" / f"{BORDERLINE}.baseline.jsonl",
    }
    rungs = [read_record(Rung, path) for path in measure_named("ladder").files(folder)]
    return _Read(
        folder=folder,
        record=record,
        manifest=read_record(RunManifest, folder / RUN),
        rungs=in_order(rungs),
        over=over,
        direction=read_if_there(DirectionFacts, folder / DIRECTION),
        asked={name: _texts(path) for name, path in answers.items()},
        outcomes={
            **{name: own_outcomes(folder, name, "baseline") for name in KINDS[:2]},
            BORDERLINE: () if over is None else over.outcomes,
        },
    )


def _over_refusal(folder: Path) -> OverRefusal | None:
    found = [read_record(OverRefusal, path) for path in measure_named("over-refusal").files(folder)]
    return found[0] if found else None


def _texts(path: Path) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    rows = sorted(read_completions(path), key=lambda row: row.index)
    return tuple(row.instruction for row in rows)


def _in_short(one: _Read, label: str) -> ComparedAudit:
    model = one.record.model
    by_rank = {
        rank: rung.refused.rate
        for rung in one.rungs
        if (rank := rank_of(rung.name)) is not None and rung.refused is not None
    }
    below = [rank for rank, rate in sorted(by_rank.items()) if rate < _HALF]
    return ComparedAudit(
        label=label,
        folder=str(one.folder),
        source=model.source,
        weights_sha256=model.weights_sha256,
        setting=one.record.setting,
        direction=one.direction,
        rank_area=one.record.rank_area,
        rank_below_half=below[0] if below else None,
        ranks=tuple(sorted(by_rank)),
    )


def _kind_row(name: str, read: Sequence[_Read]) -> ComparedRow:
    first = read[0]
    cells = [
        ComparedCell(
            refused=None if own is None else own.refused,
            shares=None if own is None else own.shares,
            change=None
            if one is first
            else _change(
                (first.outcomes[name], one.outcomes[name]),
                (_refused(first, name), _refused(one, name)),
                is_same=_is_same(first, one, name),
            ),
            lacking=one.over.lacking if own is None and one.over is not None else None,
        )
        for one in read
        for own in [_asked(one, name)]
    ]
    return ComparedRow(name=name, cells=tuple(cells))


def _asked(one: _Read, name: str) -> Asked | None:
    rows = () if one.over is None else one.over.rows
    return next((row for row in rows if row.dataset == name and row.category is None), None)


def _refused(one: _Read, name: str) -> Rate | None:
    row = _asked(one, name)
    return None if row is None else row.refused


def _rung_names(read: Sequence[_Read]) -> list[str]:
    """The rungs of all audits, what needs the least access first."""
    by_name = {rung.name: rung for one in read for rung in one.rungs}
    return [rung.name for rung in in_order(list(by_name.values()))]


def _rung_row(name: str, read: Sequence[_Read]) -> ComparedRow:
    rungs = [next((rung for rung in one.rungs if rung.name == name), None) for one in read]
    cells = []
    for one, rung in zip(read, rungs, strict=True):
        if rung is None or rung.refused is None:
            lacking = "not among the rungs of this audit" if rung is None else rung.lacking
            cells.append(ComparedCell(refused=None, lacking=lacking))
            continue
        first = rungs[0]
        change = None
        if first is not None and rung is not first:
            change = _change(
                (first.outcomes, rung.outcomes),
                (first.refused, rung.refused),
                is_same=_is_same(read[0], one, "harmful"),
            )
        cells.append(
            ComparedCell(refused=rung.refused, shares=shares_of(rung.outcomes), change=change)
        )
    return ComparedRow(name=name, cells=tuple(cells))


def _change(
    outcomes: tuple[_Outcomes, _Outcomes],
    rates: tuple[Rate | None, Rate | None],
    *,
    is_same: bool,
) -> RateChange | None:
    """From the first to another: paired where both were asked the same instructions."""
    before, after = rates
    if before is None or after is None:
        return None
    if is_same and (found := paired_change(*map(refused_by_index, outcomes))) is not None:
        return found
    return unpaired_change(before, after)


def _is_same(first: _Read, other: _Read, name: str) -> bool:
    return first.asked[name] is not None and first.asked[name] == other.asked[name]


def _cosines(folders: Sequence[Path]) -> tuple[tuple[float | None, ...], ...]:
    vectors = [
        load_direction(folder).vector.double() if (folder / DIRECTION_TENSOR).is_file() else None
        for folder in folders
    ]
    units = [None if vector is None else vector / vector.norm() for vector in vectors]
    return tuple(
        tuple(None if a is None or b is None or a.shape != b.shape else float(a @ b) for b in units)
        for a in units
    )


def _not_alike(read: Sequence[_Read], labels: Sequence[str]) -> Iterator[str]:
    """What keeps the audits from being compared number by number."""
    first = read[0]
    named = list(zip(read, labels, strict=True))[1:]
    for name in KINDS:
        odd = [
            label
            for one, label in named
            if first.outcomes[name] and one.outcomes[name] and not _is_same(first, one, name)
        ]
        if odd:
            yield (
                f"{name} instructions are others than those of the first audit in "
                f"{', '.join(odd)}: changes there are between independent samples"
            )
    ways = [_way(one) for one in read]
    if len(set(ways)) > 1:
        told = [f"{label}: {way}" for label, way in zip(labels, ways, strict=True)]
        yield f"answers were not made or judged alike: {'; '.join(told)}"
    for name in _rung_names(read):
        own = [_settings(one, name) for one in read]
        odd = [
            label
            for (one, label), settings in zip(named, own[1:], strict=True)
            if own[0] is not None and settings is not None and settings != own[0]
        ]
        if odd:
            yield (
                f"{rung_name(name)} was not tried with the same settings as in the first audit in "
                f"{', '.join(odd)}"
            )
    widths = {one.direction.d_model for one in read if one.direction is not None}
    if len(widths) > 1:
        yield "models of different width have no axes in common: no cosine is stated for those"


def _way(one: _Read) -> str:
    """How answers were made and judged, and what the prompts were put in."""
    setting = one.record.setting
    told = [text for text in setting if text.startswith(("greedy", "refused is", "no judge"))]
    options = one.manifest.options
    if options.get("system") is not None:
        told.append("a system prompt of its own")
    if options.get("template", "model") != "model":
        told.append(f"template {options['template']}")
    return ", ".join(told) or "not recorded"


def _settings(one: _Read, rung: str) -> dict[str, object] | None:
    """What a rung was tried with; None where it was not."""
    if not any(own.name == rung and own.refused is not None for own in one.rungs):
        return None
    made = one.manifest.measured.get(f"{FOLDER}/ladder/{rung}.json")
    return None if made is None else made.settings
