"""What `evaluate` and `report edit` left in a run's folder beside its stages, read back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from refusalscope.results.edit_records import EDIT, EditRecord
from refusalscope.results.evaluation_records import Agreement
from refusalscope.results.measures import FOLDER, measures
from refusalscope.results.projection_records import AnswerProjections
from refusalscope.results.record import Record
from refusalscope.results.run_records import (
    AGREEMENT,
    COHERENCE_FLAGS,
    EVALUATION,
    LOSS,
    OUTCOMES,
    PROJECTIONS,
    STRESS,
    read_if_there,
    read_judgements,
    read_record,
)
from refusalscope.results.stress_records import JudgeStress

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRecords:
    """Measurements that a run may have or not; absent parts are None or empty."""

    agreement: Agreement | None = None
    projections: AnswerProjections | None = None
    edit: EditRecord | None = None
    stress: tuple[JudgeStress, ...] = ()
    """Judges that were tried on known answers, but for the rules, whose verdicts are known."""
    measured: Mapping[str, tuple[Record, ...]] = field(default_factory=dict)
    """Records of the measures that were measured, by the measure's name."""


def read_evaluation(folder: Path) -> EvaluationRecords:
    """Read every such record of a run folder.

    Raises:
        RunFolderError: a file is not what its name says.
    """
    return EvaluationRecords(
        agreement=read_if_there(Agreement, folder / AGREEMENT),
        projections=read_if_there(AnswerProjections, folder / PROJECTIONS),
        edit=read_if_there(EditRecord, folder / EDIT),
        stress=tuple(
            read_record(JudgeStress, path) for path in sorted((folder / STRESS).glob("*.json"))
        ),
        measured=read_measured(folder),
    )


def read_measured(folder: Path) -> dict[str, tuple[Record, ...]]:
    """The records of every measure that a run's folder has any of.

    Raises:
        RunFolderError: one is not what its name says.
    """
    found = {
        measure.name: tuple(read_record(measure.record, path) for path in measure.files(folder))
        for measure in measures()
    }
    return {name: records for name, records in found.items() if records}


def measured_beside(folder: Path) -> tuple[str, ...]:
    """Files of a run that its stages do not make: measurements of its direction by other commands.

    Judgements by rules are the stages' own; those of a model are not.
    """
    stages = {folder / name for name in (LOSS, COHERENCE_FLAGS, OUTCOMES, PROJECTIONS)}
    rules = {
        folder / EVALUATION / f"{judged.judge}.json"
        for judged in read_judgements(folder)
        if judged.model is None
    }
    found = [
        path
        for name in (EVALUATION, "mechanism", "tables", FOLDER)
        for path in sorted((folder / name).rglob("*"))
        if path.is_file() and not path.name.startswith(".") and path not in stages | rules
        if path.parent != folder / STRESS  # of a judge, whatever the direction
    ]
    return tuple(str(path.relative_to(folder)) for path in found)
