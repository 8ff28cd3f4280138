"""A run of the paper's code as records of ours: completions, flags, losses, model, direction."""

from collections.abc import Iterator

from refusalscope.data.instruction import Instruction, instructions_digest
from refusalscope.data.paper_run import PaperCompletion, PaperRun
from refusalscope.models.families import FAMILIES, PAPER_MODELS, PaperModel
from refusalscope.results.loss_records import TextLosses, TextName
from refusalscope.results.published import paper_model_name
from refusalscope.results.records import (
    Completion,
    DatasetLoss,
    DirectionFacts,
    InstructionCounts,
    Judgement,
    Judgements,
    Measure,
    ModelFacts,
    Selection,
)

HARMLESS = "harmless"
HARMFUL = "harmful"
_JAILBREAKBENCH = "jailbreakbench"
_TEXTS: dict[str, TextName] = {
    "pile": "pile",
    "alpaca": "alpaca",
    "alpaca_custom_completions": "on_distribution",
}
_DOCUMENT_TOKENS = 256
_STORED = "as stored by the paper's code"
_GUARD = "meta-llama/Meta-Llama-Guard-2-8B"
_NO_CATEGORY = "None"


def our_dataset(name: str, run: PaperRun) -> str:
    """What a data set of the run is called here: JailbreakBench is the harmful test set.

    Another one is too where it is the only harmful one; else it keeps its name.
    """
    others = {one.dataset for one in run.completions or ()} - {HARMLESS}
    is_test = name == _JAILBREAKBENCH or others == {name}
    return HARMFUL if is_test else name


def imported_completions(run: PaperRun) -> Iterator[Completion]:
    """Every completion of the run, in the order of its files."""
    for one in run.completions or ():
        for index, row in enumerate(one.rows):
            yield Completion(
                index=index,
                dataset=our_dataset(one.dataset, run),
                condition=one.condition,
                instruction=row.instruction,
                category=None if row.category == _NO_CATEGORY else row.category,
                completion=row.completion,
                n_tokens=None,
                ended=None,
            )


def imported_judgements(run: PaperRun) -> list[Judgements]:
    """The stored flags of the phrase judge and of Llama Guard 2, where there are any."""
    phrases = Judgements(
        judge="refusal_phrases",
        version=_STORED,
        measures="refusal",
        rows=tuple(_flags(run, "refusal", "refusal_phrases")),
    )
    guard = Judgements(
        judge="llama_guard_2",
        version=_STORED,
        measures="safety",
        model=_GUARD,
        settings={"short_is_safe": True},
        rows=tuple(_flags(run, "safety", "llama_guard_2")),
    )
    return [judgements for judgements in (phrases, guard) if judgements.rows]


def _flags(run: PaperRun, measure: Measure, judge: str) -> Iterator[Judgement]:
    for one in run.completions or ():
        for index, row in enumerate(one.rows):
            flag = _flag(row, measure)
            if flag is not None:
                yield Judgement(
                    index=index,
                    dataset=our_dataset(one.dataset, run),
                    condition=one.condition,
                    judge=judge,
                    version=_STORED,
                    flag=flag,
                    raw="",
                )


def _flag(row: PaperCompletion, measure: Measure) -> bool | None:
    return row.is_refusal if measure == "refusal" else row.is_safe


def imported_losses(run: PaperRun) -> list[TextLosses]:
    """The losses of the paper's three texts; those of other texts are not read."""
    rows: dict[TextName, list[DatasetLoss]] = {}
    for row in run.losses or ():
        if (text := _TEXTS.get(row.dataset)) is not None:
            rows.setdefault(text, []).append(
                DatasetLoss(
                    dataset=text,
                    condition=row.condition,
                    loss=row.loss,
                    n_tokens=row.n_tokens,
                    n_texts=None,
                )
            )
    order = ("baseline", "ablation", "subtraction")
    return [
        TextLosses(
            text=text,
            source="the run's loss_evals",
            sha256=None,
            max_tokens=_DOCUMENT_TOKENS if text == "pile" else None,
            n_asked=None,
            n_tail_merged=None,
            rows=tuple(sorted(own, key=lambda row: order.index(row.condition))),
        )
        for text, own in rows.items()
    ]


def imported_inputs(run: PaperRun) -> tuple[InstructionCounts, ...]:
    """The instructions of every data set, each once."""
    sets = {one.dataset: one.rows for one in run.completions or ()}
    return tuple(
        InstructionCounts(
            name=our_dataset(name, run),
            source=f"{name} of the run",
            sha256=instructions_digest(
                [Instruction(text=row.instruction, category=row.category) for row in rows]
            ),
            n_read=len(rows),
            n_sampled=len(rows),
            n_kept=len(rows),
        )
        for name, rows in sets.items()
    )


def imported_model(run: PaperRun, *, source: str, n_layers: int) -> ModelFacts:
    """What the run's name and tensors say of its model; the rest is None."""
    known = _paper_model(run.name)
    width = None if run.mean_differences is None else int(run.mean_differences.shape[2])
    return ModelFacts(
        name=known.name if known else run.name,
        source=source,
        architecture=None,
        n_layers=n_layers,
        d_model=width,
        n_parameters=None,
        dtype=None,
        weights_sha256=None,
        settings_sha256=None,
        template_sha256=None,
        family=known.family if known else None,
        alignment=FAMILIES[known.family].alignment if known else None,
        template="paper",
        post_instruction_tokens=(),
        refusal_tokens=None,
    )


def _paper_model(name: str) -> PaperModel | None:
    wanted = paper_model_name(name)
    return next((model for model in PAPER_MODELS if model.name == wanted), None)


def imported_direction(run: PaperRun, selection: Selection, name: str) -> DirectionFacts | None:
    """The chosen direction; None where the copy has no candidate directions."""
    if run.mean_differences is None:
        return None
    chosen = selection.chosen
    vector = run.mean_differences[chosen.position, chosen.layer]
    return DirectionFacts(
        model=name,
        position=chosen.position,
        layer=chosen.layer,
        n_layers=selection.n_layers,
        d_model=vector.shape[0],
        norm=vector.norm().item(),
        bypass=chosen.bypass,
        induce=chosen.induce,
        kl=chosen.kl,
    )
