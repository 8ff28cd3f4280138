"""A run's folder opened again, with its model, to measure more."""

from pathlib import Path

from refusalscope.errors import OutputError, RunFolderError
from refusalscope.pipeline.context import Progress, RunContext
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import load
from refusalscope.pipeline.summary import summarize
from refusalscope.report.page import write_report
from refusalscope.results.files import write_file
from refusalscope.results.record import canonical_json
from refusalscope.results.run_records import SUMMARY, read_run


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


def reopen(folder: Path, *, progress: Progress) -> RunContext:
    """Load the model and instructions of a run that has a direction.

    Raises:
        RunFolderError: not a run, one without a direction, or its model is no longer what it was.
        RefusalscopeError: any other of its kinds; see `pipeline.run.load`.
    """
    options = own_options(folder)
    if read_run(folder).direction is None:
        raise RunFolderError(
            f"{folder} has no direction yet; find it with: refusalscope select {folder}"
        )
    return load(options, folder, progress=progress)


def own_options(folder: Path) -> RunOptions:
    """The options of a run that this tool made.

    Raises:
        RunFolderError: not a run, or one that was imported: it has no model to go on with.
    """
    manifest = read_run(folder).manifest
    if manifest.imported_from is not None:
        raise RunFolderError(
            f"{folder} was imported: it has no model to go on with, only a page: refusalscope "
            f"report {folder}"
        )
    return RunOptions.from_json(canonical_json(manifest.options), source=str(folder))


def refresh_summary(folder: Path) -> None:
    """Write summary and report of a finished run anew; nothing where it has none yet."""
    run = read_run(folder)
    if run.summary is None or run.selection is None:
        return
    summary = summarize(
        model=run.manifest.model,
        selection=run.selection,
        judgements=list(run.judgements),
        losses=run.losses,
        controls=run.controls,
        warnings=run.extraction.warnings if run.extraction else (),
    )
    write_file(folder / SUMMARY, summary.to_json())
    write_report(folder)


def refresh_page(folder: Path) -> None:
    """Write the report of a finished run anew; nothing where it has no summary yet."""
    if (folder / SUMMARY).is_file():
        write_report(folder)
