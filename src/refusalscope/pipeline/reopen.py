"""A run's folder opened again, with its model, to measure more."""

from pathlib import Path

from refusalscope.errors import OutputError, RunFolderError
from refusalscope.pipeline.context import Progress, RunContext
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import load
from refusalscope.results.record import canonical_json
from refusalscope.results.records import NoDirection
from refusalscope.results.run_records import (
    DIRECTION,
    NO_DIRECTION,
    RUN,
    read_if_there,
    read_run,
)


def require_same(path: Path, *facts: tuple[str, object, object]) -> None:
    """Refuse to go on from a file that was made with other settings than are asked for now.

    Args:
        facts: Name, what is asked for, and what the file was made with.

    Raises:
        OutputError: two differ; names the first.
    """
    for what, ours, theirs in facts:
        if ours != theirs:
            raise OutputError(
                f"{path} was made with another {what} ({theirs}, now {ours}); move it away to make "
                f"it anew"
            )


def reopen(folder: Path, *, progress: Progress, trust_remote_code: bool = False) -> RunContext:
    """Load the model and instructions of a run that has a direction.

    Args:
        trust_remote_code: Whether whoever asks consents to run code that comes with the model.

    Raises:
        RunFolderError: not a run, one without a direction, or its model is no longer what it was.
        RefusalscopeError: any other of its kinds; see `pipeline.run.load`.
    """
    own_options(folder, trust_remote_code=trust_remote_code)
    require_direction(folder)
    return reopen_any(folder, progress=progress, trust_remote_code=trust_remote_code)


def reopen_any(folder: Path, *, progress: Progress, trust_remote_code: bool) -> RunContext:
    """The same of a run that need not have a direction; see `reopen`."""
    options = own_options(folder, trust_remote_code=trust_remote_code)
    return load(options, folder, progress=progress)


def require_direction(folder: Path) -> None:
    """Refuse a run without a direction, and say why it has none.

    Raises:
        RunFolderError: it has none.
    """
    lacking = read_if_there(NoDirection, folder / NO_DIRECTION)
    if lacking is not None:
        raise RunFolderError(f"{folder} has no direction to measure with: {lacking.text}")
    if not (folder / DIRECTION).is_file():
        raise RunFolderError(
            f"{folder} has no direction yet; find it with: refusalscope select {folder}"
        )


def own_options(folder: Path, *, trust_remote_code: bool) -> RunOptions:
    """The options of a run that this tool made.

    A run folder is data and may come from anybody: that its model brings code is read from it,
    consent to run that code is not.

    Raises:
        RunFolderError: not a run, one that was imported (it has no model to go on with), or one
            whose model needs code to which there is no consent.
    """
    manifest = read_run(folder).manifest
    if manifest.imported_from is not None:
        raise RunFolderError(
            f"{folder} was imported: it has no model to go on with, only a page: refusalscope "
            f"report {folder}"
        )
    options = RunOptions.from_json(canonical_json(manifest.options), source=str(folder / RUN))
    if options.trust_remote_code and not trust_remote_code:
        raise RunFolderError(
            f"the run in {folder} says that its model {options.model} runs code of its own; if you "
            f"trust that code, say so with --trust-remote-code"
        )
    return options
