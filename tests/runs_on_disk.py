"""Runs made up by hand and written as folders: thirteen models of the paper's names and sizes.

Nothing in them was measured. Their instructions are made of invented words.
"""

import math
from pathlib import Path

from refusalscope.metrics.intervals import rate_of
from refusalscope.results.loss_records import TextLosses, TextName
from refusalscope.results.mechanism_folder import SUFFIX_CONDITIONS, TOKEN_STUDY
from refusalscope.results.mechanism_maps import TokenProbability, TokenStudy
from refusalscope.results.mechanism_records import (
    SuffixCondition,
    SuffixConditions,
    SuffixFacts,
)
from refusalscope.results.published import published_table
from refusalscope.results.records import (
    CandidateScores,
    Completion,
    Condition,
    DatasetLoss,
    Judgement,
    Judgements,
    Measure,
    ModelFacts,
    Rate,
    RefusalTokens,
    RunManifest,
    Selection,
    SelectionLimits,
    Summary,
    SummaryDirection,
)
from refusalscope.results.run_records import (
    COMPLETIONS,
    EVALUATION,
    RUN,
    SCORES,
    SUMMARY,
    TEXT_LOSSES,
)

N = 100
POSITIONS = range(-5, 0)
PLACES: tuple[tuple[str, Condition], ...] = (
    ("harmful", "baseline"),
    ("harmful", "ablation"),
    ("harmful", "subtraction"),
    ("harmless", "baseline"),
    ("harmless", "addition"),
)
_TEXTS: tuple[TextName, ...] = ("pile", "alpaca", "on_distribution")
_LOSS_CONDITIONS: tuple[Condition, ...] = ("baseline", "ablation", "subtraction")


def write_made_up_run(
    folder: Path, *, name: str, source: str, n_layers: int, seed: int = 0
) -> Path:
    """A finished run with selection, completions, judgements, losses and part of a mechanism."""
    selection = made_up_selection(n_layers)
    for path, text in {
        RUN: _manifest(name, source, n_layers).to_json(),
        SCORES: selection.to_json(),
        SUMMARY: _summary(name, selection, seed).to_json(),
        SUFFIX_CONDITIONS: _suffixes(selection).to_json(),
        TOKEN_STUDY: _tokens().to_json(),
        **_completions(seed),
        **_judgements(seed),
        **{f"{TEXT_LOSSES}/{text}.json": _losses(text).to_json() for text in _TEXTS},
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")
    return folder


def write_the_papers_models(folder: Path) -> list[Path]:
    """One run for each of the thirteen models, the last of the paper's first."""
    sizes = {row.model: row.values["n_layers"] for row in published_table(5).rows}
    runs = []
    for seed, row in enumerate(published_table(1).rows):
        source, n_layers = row.values["id"], sizes[row.model]
        assert source is not None
        assert n_layers is not None
        runs.append(
            write_made_up_run(
                folder / f"run-{seed}",
                name=str(source.value).rsplit("/", 1)[-1],
                source=str(source.value),
                n_layers=int(n_layers.value),
                seed=seed,
            )
        )
    return runs[::-1]


def refuses(dataset: str, condition: str, index: int, seed: int) -> bool:
    """Whether the made-up model refuses: most of what it should, and a few others."""
    should = condition == "addition" or (dataset, condition) == ("harmful", "baseline")
    return (index * 7 + seed) % 20 != 0 if should else (index * 7 + seed) % 50 == 0


def made_up_selection(n_layers: int) -> Selection:
    """Scores that look like those of Figure 11."""
    rows = []
    for position in POSITIONS:
        for layer in range(n_layers):
            bump = math.exp(-((layer / n_layers - 0.55) ** 2) / 0.03) * (1 + 0.1 * position)
            late = layer >= 0.8 * n_layers
            rows.append(
                CandidateScores(
                    position=position,
                    layer=layer,
                    bypass=6 - 15 * bump,
                    induce=-9 + 16 * bump,
                    kl=0.02 + 0.3 * max(0.0, layer / n_layers - 0.6),
                    rejected="late layer" if late else "induce" if 16 * bump < 9 else None,
                )
            )
    passed = [row for row in rows if row.rejected is None]
    return Selection(
        limits=SelectionLimits(),
        n_layers=n_layers,
        baseline_harmful=6.0,
        baseline_harmless=-9.0,
        n_harmful=32,
        n_harmless=32,
        all_scores=True,
        sweeps=3.0 * len(rows),
        full_sweeps=3 * len(rows),
        candidates=tuple(rows),
        chosen=min(passed, key=lambda row: row.bypass or 0.0),
    )


def _manifest(name: str, source: str, n_layers: int) -> RunManifest:
    return RunManifest(
        options={"model": source},
        versions={"refusalscope": "0.1.0"},
        model=ModelFacts(
            name=name,
            source=source,
            architecture="LlamaForCausalLM",
            n_layers=n_layers,
            d_model=64,
            n_parameters=1_000_000,
            dtype="float32",
            weights_sha256="3f9c" * 16,
            settings_sha256="77e0" * 16,
            template_sha256="a01b" * 16,
            family=None,
            alignment="fine-tuning",
            post_instruction_tokens=("<|end|>", "\n", "<|start|>", "model", "\n"),
            refusal_tokens=RefusalTokens(ids=(40,), strings=("I",), source="registry"),
        ),
        inputs=(),
        stages={"report": "0b1c" * 16},
        command=f"refusalscope run {source}",
    )


def _rates(measure: Measure, seed: int) -> dict[str, dict[str, Rate]]:
    table: dict[str, dict[str, Rate]] = {}
    for dataset, condition in PLACES:
        if measure == "refusal" or dataset == "harmful":
            flags = [refuses(dataset, condition, index, seed) for index in range(N)]
            table.setdefault(dataset, {})[condition] = rate_of(flags)
    return table


def _summary(name: str, selection: Selection, seed: int) -> Summary:
    chosen = selection.chosen
    return Summary(
        model={"name": name},
        direction=SummaryDirection(
            position=chosen.position,
            layer=chosen.layer,
            n_layers=selection.n_layers,
            bypass=chosen.bypass,
            induce=chosen.induce,
            kl=chosen.kl,
        ),
        refusal=_rates("refusal", seed),
        safety={**_rates("safety", seed), "judge": "llama_guard_2"},
        loss={},
    )


def _completions(seed: int) -> dict[str, str]:
    return {
        f"{COMPLETIONS}/{dataset}.{condition}.jsonl": "".join(
            Completion(
                index=index,
                dataset=dataset,
                condition=condition,
                instruction=f"tell me how to fashion a zimbul of kind {index}",
                category=None,
                completion="I cannot help with that."
                if refuses(dataset, condition, index, seed)
                else "take the frame, bind it with cord, then let it rest. " * 10,
                n_tokens=100,
                ended=True,
            ).to_line()
            for index in range(N)
        )
        for dataset, condition in PLACES
    }


def _judgements(seed: int) -> dict[str, str]:
    judges: tuple[tuple[str, Measure], ...] = (
        ("refusal_phrases", "refusal"),
        ("llama_guard_2", "safety"),
    )
    return {
        f"{EVALUATION}/{judge}.json": Judgements(
            judge=judge,
            version="1",
            measures=measure,
            rows=tuple(
                Judgement(
                    index=index,
                    dataset=dataset,
                    condition=condition,
                    judge=judge,
                    version="1",
                    flag=refuses(dataset, condition, index, seed),
                    raw="",
                )
                for dataset, condition in PLACES
                if measure == "refusal" or dataset == "harmful"
                for index in range(N)
            ),
        ).to_json()
        for judge, measure in judges
    }


def _losses(text: TextName) -> TextLosses:
    return TextLosses(
        text=text,
        source="made up",
        sha256="5d41" * 16,
        max_tokens=None,
        n_asked=None,
        n_tail_merged=0,
        rows=tuple(
            DatasetLoss(dataset=text, condition=c, loss=2.0 + 0.1 * at, n_tokens=9000, n_texts=100)
            for at, c in enumerate(_LOSS_CONDITIONS)
        ),
    )


def _suffixes(selection: Selection) -> SuffixConditions:
    curve = tuple(0.5 * layer / selection.n_layers for layer in range(selection.n_layers))
    one = SuffixCondition(
        refusal=rate_of([True, False]),
        cosine_mean=curve,
        cosine_sd=tuple(0.1 for _ in curve),
        n=128,
    )
    return SuffixConditions(
        position=selection.chosen.position,
        layer=selection.chosen.layer,
        suffix=SuffixFacts(
            source="given", text="vop", ids=(1,), n_tokens=1, n_prompts=128, n_read_differently=0
        ),
        random_read_differently=0,
        harmful=one,
        harmful_random_suffix=one,
        harmful_adversarial_suffix=one,
        harmless=one,
    )


def _tokens() -> TokenStudy:
    tokens = tuple(
        TokenProbability(id=40 + at, text=f"t{at}", probability=0.5 / (at + 1)) for at in range(10)
    )
    return TokenStudy(
        n_harmful=3,
        n_harmless=3,
        harmful=tokens,
        harmless=tokens,
        harmful_metric=(1.0, 2.0, 5.0),
        harmless_metric=(-3.0, -2.0, -5.0),
        proposed=tokens[:1],
        error=None,
        error_in_use=rate_of([False, True]),
    )
