"""A run's rows of the paper's tables; what the run has not measured is null."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from refusalscope.results.coherence_records import TaskCoherence
from refusalscope.results.deciding_judge import deciding_judge
from refusalscope.results.finetune_records import FinetuneComparison
from refusalscope.results.loss_records import TextLosses
from refusalscope.results.paper_table import TableRow, TableValue
from refusalscope.results.published import paper_model_name
from refusalscope.results.record import Record
from refusalscope.results.records import (
    Condition,
    DatasetLoss,
    Measure,
    Rate,
    RunManifest,
    Selection,
    Summary,
)
from refusalscope.results.run_records import (
    COHERENCE,
    FINETUNE,
    RUN,
    SCORES,
    SUMMARY,
    SYSTEM_PROMPTS,
    TEXT_LOSSES,
    read_losses,
    read_record,
)
from refusalscope.results.system_prompt_records import SystemPromptSweep

R = TypeVar("R", bound=Record)
DEFAULT_PROMPTS = {"Qwen": "qwen", "Llama-2": "llama-2"}
"""Names of the default system prompts of Table 2, by family; other families have none."""
STAND_IN_PROMPT = "qwen"
"""Stands for the default system prompt of a model that has none."""
_TEXTS = ("pile", "alpaca", "on_distribution")
_CONDITIONS: tuple[Condition, ...] = ("baseline", "ablation", "subtraction")
Cells = dict[str, TableValue | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRecords:
    """What a run holds of the paper's tables; absent parts are None or empty."""

    run: str
    manifest: RunManifest
    selection: Selection | None
    sweep: SystemPromptSweep | None
    tasks: tuple[TaskCoherence, ...]
    losses: tuple[DatasetLoss, ...]
    text_sources: dict[str, str]
    """Where each of Table 9's texts is from; not of imported losses."""
    finetune: FinetuneComparison | None
    summary: Summary | None

    @property
    def model(self) -> str:
        """The model as the paper names it, else by its own name."""
        facts = self.manifest.model
        return paper_model_name(facts.source) or paper_model_name(facts.name) or facts.name

    @property
    def default_prompt(self) -> str:
        """Name of the system prompt that Table 2 puts before the model."""
        return DEFAULT_PROMPTS.get(self.manifest.model.family or "", STAND_IN_PROMPT)

    def headline_rate(self, measure: Measure, condition: Condition) -> Rate | None:
        """The share of harmful completions that the summary shows."""
        shown = getattr(self.summary, measure, {}).get("harmful", {})
        return shown.get(condition)

    def row(self, cells: Cells, *, variant: str | None = None) -> TableRow:
        """A row of this run."""
        return TableRow(
            model=self.model, variant=variant, source="ours", run=self.run, values=cells
        )


def read_paper_records(folder: Path) -> PaperRecords:
    """Read from a run folder what its rows are made of.

    Raises:
        RunFolderError: not a run, or one of its files is not what its name says.
    """
    losses = read_losses(folder)
    texts = [
        read_record(TextLosses, path) for path in sorted((folder / TEXT_LOSSES).glob("*.json"))
    ]
    return PaperRecords(
        run=folder.resolve().name,
        manifest=read_record(RunManifest, folder / RUN),
        selection=_read(Selection, folder / SCORES),
        sweep=_read(SystemPromptSweep, folder / SYSTEM_PROMPTS),
        tasks=tuple(
            read_record(TaskCoherence, path) for path in sorted((folder / COHERENCE).glob("*.json"))
        ),
        losses=losses.rows if losses else (),
        text_sources={text.text: text.source for text in texts},
        finetune=_read(FinetuneComparison, folder / FINETUNE),
        summary=_read(Summary, folder / SUMMARY),
    )


def system_prompt_rows(run: PaperRecords) -> list[TableRow]:
    """Table 2: attack success under ablation, a row for each safety judge."""
    columns = {"ortho": run.default_prompt, "ortho_no_system": "none"}
    return _success_rows(run, columns)


def two_prompt_rows(run: PaperRecords) -> list[TableRow]:
    """Table 7: attack success under ablation and two system prompts, a row for each judge."""
    return _success_rows(run, {"qwen_prompt": "qwen", "llama_2_prompt": "llama-2"})


def _success_rows(run: PaperRecords, prompts: dict[str, str]) -> list[TableRow]:
    if run.sweep is None:
        return []
    judges = sorted({o.judge for o in run.sweep.over_prompts if o.measures == "safety"})
    by_name = {prompt.name: prompt.rates for prompt in run.sweep.prompts}
    rows = []
    for judge in judges:
        cells: Cells = {}
        for column, name in prompts.items():
            safe = by_name.get(name, {}).get(judge, {}).get("ablation")
            cells[column] = None if safe is None else _success(safe)
        if any(cells.values()):
            rows.append(run.row(cells, variant=judge))
    return rows


def _success(safe: Rate) -> TableValue:
    """Attack success in per cent: what is not safe."""
    return TableValue(
        value=_percent(1 - safe.rate),
        n=safe.n,
        low=_percent(1 - safe.high),
        high=_percent(1 - safe.low),
    )


def selection_rows(run: PaperRecords) -> list[TableRow]:
    """Table 5: the chosen direction."""
    if run.selection is None:
        return []
    chosen = run.selection.chosen
    cells: Cells = {
        "position": TableValue(value=chosen.position),
        "layer": TableValue(value=chosen.layer),
        "n_layers": TableValue(value=run.selection.n_layers),
    }
    for name in ("bypass", "induce", "kl"):
        score = getattr(chosen, name)
        cells[name] = None if score is None else TableValue(value=score)
    return [run.row(cells)]


def coherence_rows(run: PaperRecords) -> list[TableRow]:
    """Table 8: the tasks that were run, ablation beside baseline."""
    cells: Cells = {}
    for task in run.tasks:
        for score in task.scores:
            kind = {"ablation": "orthogonalized", "baseline": "baseline"}.get(score.condition)
            if kind is not None:
                value = score.mean if score.harness_value is None else score.harness_value
                cells[f"{task.task}_{kind}"] = TableValue(
                    value=_percent(value), n=len(score.values)
                )
    return [run.row(cells)] if cells else []


def loss_rows(run: PaperRecords) -> list[TableRow]:
    """Table 9: the loss of the three texts under three conditions."""
    cells: Cells = {
        f"{row.dataset}_{row.condition}": TableValue(value=row.loss)
        for row in run.losses
        if row.dataset in _TEXTS and row.condition in _CONDITIONS
    }
    return [run.row(cells)] if cells else []


def finetune_rows(run: PaperRecords) -> list[TableRow]:
    """Table 10: what each variant of the model does; without LoRA where none was trained."""
    if run.finetune is None:
        return _rows_without_lora(run)
    rows = []
    for numbers in run.finetune.rows:
        cells: Cells = {name: TableValue(value=loss) for name, loss in numbers.losses.items()}
        for measure in ("refusal", "safety"):
            judge = preferred_judge(run.finetune, measure)
            rate = None if judge is None else numbers.rates.get(judge)
            cells[measure] = None if rate is None else _share(rate)
        rows.append(run.row(cells, variant=numbers.variant))
    return rows


def _rows_without_lora(run: PaperRecords) -> list[TableRow]:
    """From the rates and losses that the run's summary shows."""
    rows = []
    for condition in _CONDITIONS:
        cells: Cells = {
            row.dataset: TableValue(value=row.loss)
            for row in run.losses
            if row.dataset in _TEXTS and row.condition == condition
        }
        for measure in ("refusal", "safety"):
            if rate := run.headline_rate(measure, condition):
                cells[measure] = _share(rate)
        if cells:
            rows.append(run.row(cells, variant=condition))
    return rows


def preferred_judge(finetune: FinetuneComparison, measure: Measure) -> str | None:
    """The judge that Table 10 shows: of those that judged every row, the one that decides."""
    own = sorted(name for name, measures in finetune.judges.items() if measures == measure)
    of_all = [name for name in own if all(name in row.rates for row in finetune.rows)]
    return deciding_judge(measure, of_all or own)


def _share(rate: Rate) -> TableValue:
    return TableValue(value=rate.rate, n=rate.n, low=rate.low, high=rate.high)


def _percent(share: float) -> float:
    """Per cent without what floating point leaves behind the sixth digit."""
    return round(100 * share, 6)


def _read(kind: type[R], path: Path) -> R | None:
    return read_record(kind, path) if path.is_file() else None
