"""`report edit`: the record of an edit made with a run's direction, shown on the run's page."""

from pathlib import Path

import torch

from refusalscope.directions.direction import load_direction, unit_direction
from refusalscope.errors import InputError, OutputError
from refusalscope.pipeline.folder_lock import writes_to_run
from refusalscope.report.page import write_report
from refusalscope.results.edit_records import EDIT, EditRecord
from refusalscope.results.files import write_file
from refusalscope.results.run_records import read_run
from refusalscope.weights.verify import read_edit

_TOLERANCE = 1e-4
"""Largest share of the direction that may lie outside what was edited."""


@writes_to_run
def add_edit(run_folder: Path, edited: Path) -> EditRecord:
    """Copy `edit.json` of an edited checkpoint into a run, and write the run's page anew.

    What the record says was measured when the edit was made; `weights verify` measures it again.

    Raises:
        RunFolderError: not a run.
        InputError: `edited` is no edited checkpoint, or another direction was written into it.
        OutputError: the run has the record of another edit.
    """
    read_run(run_folder)
    record = read_edit(edited)
    _require_own_direction(run_folder, edited, record)
    path = run_folder / EDIT
    text = record.to_json()
    if path.is_file() and path.read_text("utf-8") != text:
        raise OutputError(f"{path} is the record of another edit; move it away to show this one")
    write_file(path, text)
    write_report(run_folder)
    return record


def _require_own_direction(run_folder: Path, edited: Path, record: EditRecord) -> None:
    basis = torch.tensor(record.basis, dtype=torch.float64)
    own = unit_direction(load_direction(run_folder).vector).double()
    if basis.shape[1] != own.shape[0]:
        raise InputError(
            f"{edited} was edited along a direction {basis.shape[1]} wide, that of {run_folder} is "
            f"{own.shape[0]} wide; name an edit of this run's model"
        )
    rows = basis / basis.norm(dim=1, keepdim=True)
    outside = (own - rows.T @ (rows @ own)).norm()
    if outside > _TOLERANCE:
        raise InputError(
            f"{edited} was edited along another direction than that of {run_folder} "
            f"({float(outside):.2g} of it lies outside); name an edit made with --direction "
            f"{run_folder}"
        )
