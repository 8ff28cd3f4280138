"""One run for each of several models, with the same options, and one table over all of them."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from refusalscope.errors import FolderHeldError, InputError, RefusalscopeError
from refusalscope.pipeline.context import Progress
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import run
from refusalscope.report.selection_table import (
    SelectionRow,
    failed_row,
    selection_row,
    table_csv,
)
from refusalscope.results.file_names import file_name
from refusalscope.results.files import output_error, write_file
from refusalscope.results.given_files import given_toml
from refusalscope.results.record import Record, canonical_json, first_problem

_LOG = logging.getLogger(__name__)
TABLE = "tables/table-5"


class SeveralRuns(Record):
    """What `run-all` reads: models, and the options that all runs share."""

    models: tuple[str, ...] = Field(min_length=1)
    """Folders, hub ids or `organism:NAME`; folders are relative to the config's own."""
    options: dict[str, object] = Field(default_factory=dict)
    """Fields of `RunOptions` but `model`."""


def read_several_runs(
    config: Path, *, trust_remote_code: bool = False
) -> list[tuple[str, RunOptions]]:
    """The runs of a TOML config, each with the name of its folder.

    Args:
        trust_remote_code: Whether whoever asks consents to run code that comes with the models; a
            file is no consent.

    Raises:
        InputError: it asks for remote code without consent, no such file, not TOML, an unknown
            option, or two models of one name.
    """
    values = given_toml(config)
    try:
        several = SeveralRuns.model_validate(values)
        runs = [
            (
                _name(model),
                RunOptions.model_validate(
                    {**several.options, "model": _resolved(model, config.parent)}
                ),
            )
            for model in several.models
        ]
    except ValidationError as error:
        raise InputError(f"{config}: {first_problem(error)}") from error
    if any(options.trust_remote_code for _, options in runs) and not trust_remote_code:
        raise InputError(
            f"{config} says that models run code of their own; if you trust that code, say so with "
            f"--trust-remote-code"
        )
    if trust_remote_code:
        runs = [
            (name, options.model_copy(update={"trust_remote_code": True})) for name, options in runs
        ]
    names = [name for name, _ in runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"{config} has two models that are called {twice[0]!r}, and each needs a folder of its "
            f"own name; rename one of them"
        )
    return runs


def run_all(
    runs: list[tuple[str, RunOptions]], out: Path, *, progress: Progress | None = None
) -> list[SelectionRow]:
    """Run every model into a folder of `out`, or continue there; then write the table.

    A model in which no direction is found, or that cannot be loaded, is a row that says why; the
    others are run all the same.
    """
    make_folder(out)
    rows = [run_one(name, options, out, progress=progress) for name, options in runs]
    write_several(rows, out)
    return rows


def make_folder(out: Path) -> None:
    """The folder of the runs.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(out, error) from error


def run_one(
    name: str,
    options: RunOptions,
    out: Path,
    *,
    progress: Progress | None = None,
    held_seconds: float = 0.0,
) -> SelectionRow:
    """The row of one model, which is run into its folder of `out`, or goes on there.

    Args:
        held_seconds: How long to wait for another process to leave the folder.
    """
    until = time.monotonic() + held_seconds
    try:
        while True:
            try:
                summary = run(options, out / name, progress=progress)
                break
            except FolderHeldError:
                if time.monotonic() >= until:
                    raise
                time.sleep(1.0)
    except RefusalscopeError as error:
        _LOG.warning("%s: %s", name, error)
        return failed_row(name, str(error))
    if summary is None:
        raise ValueError(f"the run of {name} ended without a summary")
    return selection_row(name, summary)


def write_several(rows: Sequence[SelectionRow], out: Path) -> None:
    """Write the table over all models."""
    write_file(out / f"{TABLE}.csv", table_csv(list(rows)))
    table = {"schema": 1, "rows": [row.model_dump(mode="json") for row in rows]}
    write_file(out / f"{TABLE}.json", canonical_json(table))


def _resolved(model: str, base: Path) -> str:
    return str(base / model) if (base / model).is_dir() else model


def _name(model: str) -> str:
    own = model.rstrip("/").replace(":", "-").split("/")[-1]
    return file_name(own, what=f"the folder of the run of {model!r}")
