"""Measures of a run: what is there and was made alike is read, the rest measured and written."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from refusalscope.errors import OutputError, RunFolderError
from refusalscope.pipeline.refresh import refresh_summary
from refusalscope.pipeline.reopen import own_options
from refusalscope.pipeline.run_folder import RunFolder
from refusalscope.pipeline.session import Session
from refusalscope.results.files import write_file
from refusalscope.results.measures import Measure
from refusalscope.results.record import Record
from refusalscope.results.records import MadeWith, RunManifest
from refusalscope.results.run_records import read_record, read_run

R = TypeVar("R", bound=Record)

_LOG = logging.getLogger(__name__)


def measure(session: Session, kind: Measure[R], options: Record | None = None) -> list[R]:
    """The records of one measure, an item each; summary and page of the run are written anew.

    A measurement that was killed and is started again ends with the same bytes as one that was not.

    Args:
        options: Of the measure's own kind; None is its defaults.

    Raises:
        RunFolderError: not a run, one without a direction, or a stage that the measure needs is not
            done.
        OutputError: a record is there that was made with other settings.
        RefusalscopeError: whatever the measure raises.
    """
    folder, wanted = session.folder, options or kind.options()
    manifest = read_run(folder).manifest
    found = []
    for item in kind.items_of(wanted):
        file = kind.path(item)
        _require_stages(session, manifest, kind)
        if kind.adds:
            found.append(kind.measured(session, wanted, item))
            write_file(folder / file, found[-1].to_json())
            continue
        made_with = _made_with(folder, manifest, kind, wanted, item)
        record = _kept(folder, file, kind, manifest.measured.get(file), made_with)
        if record is None:
            record = kind.measured(session, wanted, item)
            # Noted first: a record whose note says something else is never taken for this one.
            RunFolder(path=folder).note_measured(file, made_with)
            write_file(folder / file, record.to_json())
        found.append(record)
    refresh_summary(folder)
    return found


def _require_stages(session: Session, manifest: RunManifest, kind: Measure[R]) -> None:
    folder = session.folder
    for stage in kind.needs:
        if stage not in manifest.stages:
            own_options(folder, trust_remote_code=session.trust_remote_code)
            raise RunFolderError(
                f"{folder} is not done up to {stage}, which {kind.name} rests on; do it with: "
                f"refusalscope {stage} {folder}"
            )


def _made_with(
    folder: Path, manifest: RunManifest, kind: Measure[R], options: Record, item: str
) -> MadeWith:
    settings = kind.settings_of(folder, options, item)
    stages = {stage: manifest.stages[stage] for stage in kind.needs}
    return MadeWith(version=kind.version, settings=dict(settings), stages=stages)


def _kept(
    folder: Path, file: str, kind: Measure[R], made: MadeWith | None, wanted: MadeWith
) -> R | None:
    """The record that is there; None where there is none.

    Raises:
        OutputError: it was made with something else than is asked for now.
    """
    path = folder / file
    if not path.is_file():
        return None
    record = read_record(kind.record, path)
    if made is None and kind.says is None:
        _LOG.warning("%s does not say what it was made with; it is taken as it is", path)
        return record
    if made is None and kind.says is not None:
        made = wanted.model_copy(update={"settings": {**wanted.settings, **kind.says(record)}})
    for what, theirs, ours in _pairs(made or wanted, wanted):
        if theirs != ours:
            raise OutputError(
                f"{path} was made with another {what} ({theirs}, now {ours}); move it away to make "
                f"it anew"
            )
    return record


def _pairs(made: MadeWith, wanted: MadeWith) -> Sequence[tuple[str, object, object]]:
    """What two measurements were made with, by name."""
    settings = dict.fromkeys([*made.settings, *wanted.settings])
    stages = dict.fromkeys([*made.stages, *wanted.stages])
    return [
        ("version", made.version, wanted.version),
        *((name, made.settings.get(name), wanted.settings.get(name)) for name in settings),
        *((f"stage {name}", made.stages.get(name), wanted.stages.get(name)) for name in stages),
    ]
