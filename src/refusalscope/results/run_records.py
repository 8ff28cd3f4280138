"""A run folder read back: what the report, comparisons and imports work from."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from refusalscope.errors import InputError, RunFolderError
from refusalscope.results.control_records import ControlSpread
from refusalscope.results.engine_records import EngineProof
from refusalscope.results.evaluation_records import CoherenceFlags
from refusalscope.results.file_names import file_name
from refusalscope.results.judgement_files import read_judge_files, require_each_once
from refusalscope.results.loss_records import TextLosses
from refusalscope.results.measures import FOLDER, measures
from refusalscope.results.outcomes import Signs
from refusalscope.results.plain_folder import record_text, require_plain_folder
from refusalscope.results.record import Record
from refusalscope.results.records import (
    Completion,
    Condition,
    DirectionFacts,
    ExtractionFacts,
    Judgements,
    Losses,
    NoDirection,
    RunManifest,
    Selection,
    Summary,
)

R = TypeVar("R", bound=Record)

RUN = "run.json"
TIMINGS = "timings.json"
ANSWERS = "directions/answers.jsonl"
EXTRACTION = "directions/extraction.json"
MEAN_DIFFERENCES = "directions/mean_differences.safetensors"
NO_DIRECTION = "selection/no_direction.json"
PROMPT_SCORES = "selection/prompt_scores.jsonl"
SCORES = "selection/scores.json"
DIRECTION_TENSOR = "selection/direction.safetensors"
DIRECTION = "selection/direction.json"
CONTROLS = "selection/controls.json"
COMPLETIONS = "completions"
ENGINE_PROOF = f"{COMPLETIONS}/engine.json"
EVALUATION = "evaluation"
LOSS = "evaluation/loss.json"
TEXT_LOSSES = "evaluation/loss"
COHERENCE = "evaluation/coherence"
COHERENCE_FLAGS = "evaluation/coherence_flags.json"
AGREEMENT = "evaluation/agreement.json"
SYSTEM_PROMPTS = "evaluation/system_prompts.json"
OUTCOMES = "evaluation/outcomes.json"
PROJECTIONS = "evaluation/projections.json"
FINETUNE = "evaluation/finetune.json"
STRESS = "evaluation/stress"
SUMMARY = "summary.json"
REPORT = "report.html"
_NOT_JUDGEMENTS = (
    *(LOSS, COHERENCE_FLAGS, AGREEMENT, SYSTEM_PROMPTS, FINETUNE, OUTCOMES, PROJECTIONS),
)
"""Files of `evaluation/` that are no judge's, beside those of measures."""
_RESERVED = ("prompt", "training", "import", "edit")


def not_judgements() -> set[str]:
    """Files of a run's `evaluation/` that are no judge's."""
    ours = {measure.path() for measure in measures() if measure.items is None}
    return {*_NOT_JUDGEMENTS, *(name for name in ours if name.startswith(f"{EVALUATION}/"))}


def _reserved() -> set[str]:
    """What no judge may be called: other records stand, or stood, where its file would."""
    return {*(Path(name).stem for name in not_judgements()), *_RESERVED}


def judgements_file(name: str) -> str:
    """The file of the judgements that go by `name`, in whatever folder judgements are.

    Raises:
        InputError: no file can be called so, or another record is.
    """
    if name.casefold() in _reserved():
        raise InputError(
            f"a judge's files are called {name!r}, and so is another record of a run; give the "
            f"judge another name with --label"
        )
    return f"{file_name(name, what='the name of a judge')}.json"


def stress_file(name: str) -> str:
    """Where it stands what a judge made of known answers.

    Raises:
        InputError: no file can be called so.
    """
    return f"{STRESS}/{file_name(name, what='the name of a judge')}.json"


def completions_file(dataset: str, condition: str) -> str:
    """The file of the completions of a data set under one condition.

    Raises:
        InputError: no file can be called after the data set.
    """
    return f"{file_name(dataset, what='the name of a data set')}.{condition}.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecords:
    """Everything a run folder holds but its tensors; absent parts are None or empty."""

    folder: Path
    manifest: RunManifest
    extraction: ExtractionFacts | None
    selection: Selection | None
    direction: DirectionFacts | None
    completions: tuple[Completion, ...]
    judgements: tuple[Judgements, ...]
    flags: CoherenceFlags | None
    losses: Losses | None
    summary: Summary | None
    no_direction: NoDirection | None = None
    signs: Signs | None = None
    controls: ControlSpread | None = None
    engine: EngineProof | None = None
    """Of another engine than transformers that wrote completions, or some of them."""
    unknown: tuple[str, ...] = ()
    """Files among the judges' that are no record that this version knows; left out."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be said of the folder, whatever its records say."""
        if not self.unknown:
            return ()
        n = len(self.unknown)
        return (
            f"{n} {'file' if n == 1 else 'files'} of the run {'is' if n == 1 else 'are'} no record "
            f"that this version knows and left out: {', '.join(self.unknown)}",
        )


def read_run(folder: Path) -> RunRecords:
    """Read every record of a run folder.

    Raises:
        RunFolderError: `folder` is not a run, one of its files is not what its name says or lacks
            a part of what it counts, or it leads out of itself.
    """
    manifest = read_if_there(RunManifest, folder / RUN)
    if manifest is None:
        raise RunFolderError(f"{folder} is not a run folder: it has no {RUN}")
    require_plain_folder(folder)
    completions = read_all_completions(folder)
    judgements, unknown = _judgements(folder, completions)
    unknown += _of_no_measure(folder)
    flags = read_if_there(CoherenceFlags, folder / COHERENCE_FLAGS)
    signs = read_if_there(Signs, folder / OUTCOMES)
    for name, rows in ((COHERENCE_FLAGS, flags), (OUTCOMES, signs)):
        require_each_once(folder / name, rows.rows if rows else (), completions)
    return RunRecords(
        folder=folder,
        manifest=manifest,
        extraction=read_if_there(ExtractionFacts, folder / EXTRACTION),
        selection=read_if_there(Selection, folder / SCORES),
        direction=read_if_there(DirectionFacts, folder / DIRECTION),
        completions=tuple(completions),
        judgements=tuple(judgements),
        flags=flags,
        losses=read_losses(folder),
        summary=read_if_there(Summary, folder / SUMMARY),
        no_direction=read_if_there(NoDirection, folder / NO_DIRECTION),
        signs=signs,
        controls=read_if_there(ControlSpread, folder / CONTROLS),
        engine=read_if_there(EngineProof, folder / ENGINE_PROOF),
        unknown=tuple(str(path.relative_to(folder)) for path in unknown),
    )


def read_completions(path: Path) -> list[Completion]:
    """Read one completions file.

    Raises:
        RunFolderError: the file is absent, a line is not a completion, or the last one has no end;
            the message names file and line.
    """
    if not os.path.lexists(path):
        raise RunFolderError(f"{path} does not exist; write it with: refusalscope complete RUN")
    *lines, rest = record_text(path).split("\n")
    if rest or not lines:
        raise _cut(path, f"its line {len(lines) + 1} has no end")
    return [
        Completion.from_json(line, source=f"{path}, line {number}")
        for number, line in enumerate(lines, 1)
    ]


def require_whole(path: Path, rows: Sequence[Completion], *, planned: int | None) -> None:
    """Refuse a file of completions that lacks one: what is counted is complete.

    Args:
        path: DATASET.CONDITION.jsonl, which the rows were read from.
        planned: How many instructions the data set has; None where the run does not say.

    Raises:
        RunFolderError: its rows are not those of the indices 0, 1, ..., each once and in order, or
            they are of another data set or condition than its name says, or fewer or more than
            planned.
    """
    dataset, _, condition = path.name.removesuffix(".jsonl").rpartition(".")
    for at, row in enumerate(rows):
        if (row.dataset, row.condition, row.index) != (dataset, condition, at):
            raise _cut(
                path,
                f"its line {at + 1} is completion {row.index} of {row.dataset}, {row.condition}; "
                f"expected {at} of {dataset}, {condition}",
            )
    if planned is not None and len(rows) != planned:
        raise _cut(path, f"it has {len(rows)} completions of {planned} instructions")


def read_dataset_completions(folder: Path, dataset: str, condition: Condition) -> list[Completion]:
    """A run's completions of one data set under one condition.

    Raises:
        RunFolderError: there are none, or the file lacks some.
    """
    path = folder / COMPLETIONS / f"{dataset}.{condition}.jsonl"
    if not path.is_file():
        raise RunFolderError(
            f"{path} does not exist; write it with: refusalscope complete {folder}"
        )
    rows = read_completions(path)
    require_whole(path, rows, planned=_n_planned(folder).get(dataset))
    return rows


def read_all_completions(folder: Path) -> list[Completion]:
    """Every completion of a run, file by file.

    Raises:
        RunFolderError: a line is not a completion, or a file lacks some.
    """
    planned = _n_planned(folder)
    found: list[Completion] = []
    for path in sorted((folder / COMPLETIONS).glob("*.jsonl")):
        if not path.name.startswith("."):
            rows = read_completions(path)
            dataset = path.name.removesuffix(".jsonl").rpartition(".")[0]
            require_whole(path, rows, planned=planned.get(dataset))
            found += rows
    return found


def _n_planned(folder: Path) -> dict[str, int]:
    """How many instructions each data set of a run has; nothing of one that was imported."""
    manifest = read_if_there(RunManifest, folder / RUN)
    if manifest is None or manifest.imported_from is not None:
        return {}
    return {row.name: row.n_sampled for row in manifest.inputs}


def _cut(path: Path, what: str) -> RunFolderError:
    return RunFolderError(
        f"{path} is cut or was changed ({what}); get it back from a copy, or remove it and let the "
        f"command that wrote it write it again: no rate is computed from a part"
    )


def _of_no_measure(folder: Path) -> list[Path]:
    """Records of measures that are not installed here; what one keeps below them is its own."""
    known = {path for measure in measures() for path in measure.files(folder)}
    found = [*(folder / FOLDER).glob("*.json"), *(folder / FOLDER).glob("*/*.json")]
    return [path for path in sorted(found) if path not in known]


def read_judgements(folder: Path) -> list[Judgements]:
    """The judgements of every judge of a run, by file name.

    Raises:
        RunFolderError: a judge's file is damaged, or lacks some of the completions it judges.
    """
    return _judgements(folder, read_all_completions(folder))[0]


def _judgements(
    folder: Path, completions: Sequence[Completion]
) -> tuple[list[Judgements], list[Path]]:
    """The judgements, each of all completions; and files that are no record that is known."""
    others = {folder / name for name in not_judgements()}
    found, unknown = read_judge_files(folder / EVALUATION, others=others)
    for path, record in found.items():
        require_each_once(path, record.rows, completions)
    return list(found.values()), unknown


def read_losses(folder: Path) -> Losses | None:
    """The losses of a run's own harmless completions and of further texts; None without any.

    Raises:
        RunFolderError: a file is no record of losses.
    """
    own = read_if_there(Losses, folder / LOSS)
    texts = [
        read_record(TextLosses, path) for path in sorted((folder / TEXT_LOSSES).glob("*.json"))
    ]
    rows = (*(own.rows if own else ()), *(row for text in texts for row in text.rows))
    return Losses(rows=rows) if rows else own


def read_record(kind: type[R], path: Path) -> R:
    """Read a record that must be there.

    Raises:
        RunFolderError: it is absent, or not what its name says.
    """
    record = read_if_there(kind, path)
    if record is None:
        raise RunFolderError(f"{path} does not exist; run the stage that writes it first")
    return record


def read_if_there(kind: type[R], path: Path) -> R | None:
    """Read a record; None where the file is absent.

    Raises:
        RunFolderError: it is not what its name says.
    """
    if not os.path.lexists(path):
        return None
    return kind.from_json(record_text(path), source=str(path))
