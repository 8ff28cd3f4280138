"""The options of a run that is continued: those that it began with, but for what may change."""

import logging
from pathlib import Path

from refusalscope.pipeline.complete import side_files
from refusalscope.pipeline.options import ALIKE, CHANGEABLE, RunOptions
from refusalscope.results.record import canonical_json
from refusalscope.results.records import RunManifest
from refusalscope.results.run_records import RUN

_LOG = logging.getLogger(__name__)


def is_of_0_1(manifest: RunManifest) -> bool:
    """Whether version 0.1 extracted the run's candidates: its keys and limits are kept."""
    return "label" not in manifest.options and "extract" in manifest.stages


def with_what_is_there(options: RunOptions, existing: RunManifest | None, out: Path) -> RunOptions:
    """The options, leaving out nothing that the run has already: it is kept, and kept true."""
    if existing is None:
        return options
    has_side = all((out / name).is_file() for name in side_files())
    there = {*existing.stages, *(("side-conditions",) if has_side else ())}
    kept = [name for name in options.without if name in there]
    if kept:
        _LOG.warning("%s has %s already; it is not left out", out, " and ".join(kept))
    left_out = tuple(name for name in options.without if name not in there)
    return options.model_copy(update={"without": left_out})


def options_of(options: RunOptions, existing: RunManifest | None) -> dict[str, object]:
    """The options of a run: those that it began with, but for limits, which may change."""
    now = options.model_dump(mode="json")
    if existing is None:
        return now
    if is_of_0_1(existing):
        return existing.options
    kept = {name: value for name, value in existing.options.items() if name not in CHANGEABLE}
    return {**kept, **{name: now[name] for name in CHANGEABLE if name in now}}


def with_kept_limits(options: RunOptions, existing: RunManifest | None) -> RunOptions:
    """The options, with the limits that a run of 0.1 was made with."""
    if existing is None or not is_of_0_1(existing):
        return options
    kept = RunOptions.from_json(canonical_json(existing.options), source=RUN)
    limits = (name for name in CHANGEABLE if name not in ALIKE)
    return options.model_copy(update={name: getattr(kept, name) for name in limits})
