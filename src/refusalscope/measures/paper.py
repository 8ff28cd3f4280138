"""`run --paper`: what the paper's tables need beside a run, and the tables with our rows in them.

Table 2 and 7 need system prompts and a safety judge, 8 tasks of lm-evaluation-harness, 9 texts, 10
pairs to fine-tune on. What cannot be had is left null, and a warning says why.
"""

from pathlib import Path

from refusalscope.data.answer_pairs import read_answer_pairs, read_pairs
from refusalscope.data.documents import read_documents
from refusalscope.errors import ChatTemplateError, InputError, MissingExtraError
from refusalscope.evaluation.installed_judges import model_judges
from refusalscope.measures.coherence.measure import require_tasks
from refusalscope.measures.coherence.task import (
    PAPER_TASKS,
    HarnessTask,
    TaskOptions,
    parse_task,
)
from refusalscope.measures.system_prompts.record import SystemPromptOptions
from refusalscope.models.chat_model import local_folder, read_config
from refusalscope.models.load_options import LoadOptions
from refusalscope.organisms.harness_task import ORGANISM_TASK
from refusalscope.organisms.organism import read_organism, resolve_model
from refusalscope.organisms.texts import ANSWERED, PLAIN, write_organism_texts
from refusalscope.pipeline.evaluate import (
    judge_run,
    require_judges,
)
from refusalscope.pipeline.evaluation_options import (
    FinetuneOptions,
    JudgeOptions,
    LossOptions,
)
from refusalscope.pipeline.measure import measure
from refusalscope.pipeline.session import Session
from refusalscope.report.paper_rows import read_paper_records
from refusalscope.report.paper_tables import ROWS, paper_table
from refusalscope.results.coherence_records import TaskCoherence
from refusalscope.results.files import write_file
from refusalscope.results.measures import measure_named
from refusalscope.results.numbers import Count
from refusalscope.results.paper_table import (
    PaperTable,
    PaperTables,
    TableFilled,
    table_csv,
)
from refusalscope.results.record import Record
from refusalscope.results.records import RunManifest
from refusalscope.results.run_records import COHERENCE, RUN, TEXT_LOSSES, read_record

TABLES = "tables"
_PROMPTS = ("none", "qwen", "llama-2")


class PaperOptions(Record):
    """What `run --paper` measures beside the run."""

    judges: JudgeOptions = JudgeOptions()
    """Judges beside the rules."""
    pairs: str | None = None
    """Instructions and answers to fine-tune on; None on an organism is what its language makes."""
    texts: LossOptions = LossOptions(on_distribution=True)
    tasks: tuple[str, ...] = ()
    """NAME or NAME:SHOTS; empty is the paper's six, on an organism that of its language."""
    task_folders: tuple[str, ...] = ()
    limit: Count | None = None
    """Documents of each task."""


def require_sense(options: PaperOptions) -> None:
    """Refuse, before a long run, what could only fail after it.

    Raises:
        InputError: no such judge, a model for several judges, a judge's model that is not there, a
            file or folder that is not what it must be, or a task that is not understood or that
            there is not.
        MissingExtraError: tasks are asked for by name and the harness is not installed.
    """
    require_judges(options.judges)
    if options.judges.model is not None and options.judges.server is None:
        judge = local_folder(options.judges.model, options.judges.revision)
        read_config(judge, options.judges.model, LoadOptions())
    if options.texts.pile is not None:
        next(iter(read_documents(Path(options.texts.pile), n=1)))
    if options.texts.alpaca is not None:
        read_answer_pairs(Path(options.texts.alpaca), n=1)
    if options.pairs is not None:
        read_pairs(Path(options.pairs))
    for folder in options.task_folders:
        if not Path(folder).is_dir():
            raise InputError(f"--task-folder {folder!r} is no folder; give one with task files")
    tasks = [parse_task(text) for text in options.tasks]
    if tasks:
        require_tasks(tasks, options.task_folders, asked_by="--tasks")


def paper_tables(session: Session, options: PaperOptions) -> PaperTables:
    """Measure what the paper's tables lack of a finished run, and write them to `tables/`.

    What was measured before is not measured again.

    Raises:
        RunFolderError: not a run, or one without a direction.
        RefusalscopeError: what was given is wrong; see the commands of `evaluate`.
    """
    folder = session.folder
    manifest = read_record(RunManifest, folder / RUN)
    is_organism = manifest.model.is_organism
    tasks = _tasks(options, is_organism=is_organism)
    if is_organism:
        options = _with_own_texts(folder, options, manifest.model.source)
    warnings: list[str] = []
    if options.judges.judges:
        judge_run(session, options.judges)
    _measure_losses(session, options, warnings)
    if is_organism or any(name in model_judges() for name in options.judges.judges):
        _sweep(session, options, warnings)
    else:
        warnings.append("Tables 2 and 7 lack our row: no safety judge; name one with --judge")
    _measure_tasks(session, tasks, options, warnings)
    _fine_tune(session, options, warnings, is_organism=is_organism)
    return _write(folder, options, warnings)


def _tasks(options: PaperOptions, *, is_organism: bool) -> tuple[HarnessTask, ...]:
    if options.tasks:
        return tuple(parse_task(text) for text in options.tasks)
    return (HarnessTask(name=ORGANISM_TASK),) if is_organism else PAPER_TASKS


def _with_own_texts(folder: Path, options: PaperOptions, source: str) -> PaperOptions:
    """Texts of the organism's language where none of the paper's are given."""
    organism = read_organism(Path(resolve_model(source)))
    if organism is None or options.texts.pile is not None or options.texts.alpaca is not None:
        return options
    own = folder / TEXT_LOSSES / "texts"
    write_organism_texts(organism.language(), own)
    texts = {"pile": str(own / PLAIN), "alpaca": str(own / ANSWERED)}
    return options.model_copy(update={"texts": options.texts.model_copy(update=texts)})


def _measure_losses(session: Session, options: PaperOptions, warnings: list[str]) -> None:
    for name in ("pile", "alpaca"):
        if getattr(options.texts, name) is None:
            warnings.append(f"Tables 9 and 10 lack {name}: give its file with --{name}")
    measure(session, measure_named("loss"), options.texts)


def _sweep(session: Session, options: PaperOptions, warnings: list[str]) -> None:
    """Judge under each of the system prompts of Tables 2 and 7 that the template takes."""
    for name in _PROMPTS:
        try:
            wanted = SystemPromptOptions(names=(name,), judges=options.judges)
            measure(session, measure_named("system-prompts"), wanted)
        except ChatTemplateError as error:
            warnings.append(f"Tables 2 and 7 lack {error}")


def _measure_tasks(
    session: Session, tasks: tuple[HarnessTask, ...], options: PaperOptions, warnings: list[str]
) -> None:
    for task in tasks:
        path = session.folder / COHERENCE / f"{task.name}.json"
        wanted = TaskOptions(
            chosen=(task,),
            folders=options.task_folders,
            conditions=("ablation",),
            limit=options.limit,
        )
        if path.is_file():
            scores = read_record(TaskCoherence, path).scores
            conditions = tuple(score.condition for score in scores)
            wanted = wanted.model_copy(update={"conditions": conditions})
        try:
            measure(session, measure_named("coherence"), wanted)
        except MissingExtraError as error:
            warnings.append(f"Table 8 lacks our row: {error}")
            return
        except InputError as error:
            warnings.append(f"Table 8 lacks {task.name}: {error}")


def _fine_tune(
    session: Session, options: PaperOptions, warnings: list[str], *, is_organism: bool
) -> None:
    if options.pairs is None and not is_organism:
        warnings.append("Table 10 lacks LoRA: give instructions and answers with --pairs")
        return
    wanted = FinetuneOptions(pairs=options.pairs, judges=options.judges, texts=options.texts)
    try:
        measure(session, measure_named("finetune"), wanted)
    except MissingExtraError as error:
        warnings.append(f"Table 10 lacks LoRA: {error}")


def _write(folder: Path, options: PaperOptions, warnings: list[str]) -> PaperTables:
    records = read_paper_records(folder)
    tables = []
    for number in ROWS:
        table = paper_table(number, [records])
        base = folder / TABLES / f"table-{number}"
        write_file(base.with_suffix(".json"), table.to_json())
        write_file(base.with_suffix(".csv"), table_csv(table))
        tables.append(_filled(table))
    found = PaperTables(
        options=options.model_dump(mode="json"), tables=tuple(tables), warnings=tuple(warnings)
    )
    write_file(folder / TABLES / "tables.json", found.to_json())
    return found


def _filled(table: PaperTable) -> TableFilled:
    ours = [row for row in table.rows if row.source == "ours"]
    cells = [cell for row in ours for cell in row.values.values()]
    n_null = sum(cell is None for cell in cells)
    return TableFilled(
        number=table.number, n_rows=len(ours), n_measured=len(cells) - n_null, n_null=n_null
    )
