"""Several random directions in place of the direction: the refusal metric of the first token.

One random direction says nothing of how random directions differ. A forward pass a prompt is cheap
beside a completion, so every control has several here, the one that completions are written under
among them. They are scored as candidates are: bypass on harmful prompts, induce on harmless ones.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.interventions.intervention import condition_intervention
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.results.control_records import ControlSpread, FirstTokenMetric
from refusalscope.results.files import sha256_text
from refusalscope.results.records import Condition
from refusalscope.selection.score import ModelScorer
from refusalscope.selection.scorer import Part, ScoreName

N_DRAWS = 5
"""Random directions of each control."""
_MEASURED: dict[str, tuple[ScoreName, Condition, Condition]] = {
    "harmful": ("bypass", "ablation", "random_ablation"),
    "harmless": ("induce", "addition", "random_addition"),
}
"""By data set, the score, what the direction does there, and its control."""


def control_seeds(seed: int, n_draws: int = N_DRAWS) -> tuple[int, ...]:
    """Seeds of the random directions: that of the run, which completions use, and others of it."""
    others = (int(sha256_text(f"{seed}/control/{at}")[:8], 16) for at in range(1, n_draws))
    return (seed, *others)


def control_spread(
    chat: ChatModel,
    prompts: Mapping[str, Sequence[Prompt]],
    *,
    vector: Float[Tensor, " d_model"],
    layer: int,
    refusal_tokens: tuple[int, ...],
    seeds: Sequence[int],
    progress: Callable[[float], None] | None = None,
) -> ControlSpread:
    """The refusal metric untouched, under the direction, and under each random direction.

    Args:
        prompts: By data set, `harmful` and `harmless`.
        vector: The direction r, not normalised.
        layer: Of `vector`.
        progress: Told of each part of a sweep that is done.

    Raises:
        NumericalError: NaN or infinite logits without intervention.
    """
    edits = [
        (dataset, name, seed)
        for dataset, (_, condition, control) in _MEASURED.items()
        for name, seed in [(condition, None), *((control, seed) for seed in seeds)]
    ]
    vectors = torch.zeros(len(edits), layer + 1, chat.d_model)
    for row, (_, name, seed) in enumerate(edits):
        edit = condition_intervention(
            name, vector=vector, layer=layer, control_seed=seeds[0] if seed is None else seed
        )
        if edit is None:
            raise ValueError(f"{name} changes nothing")
        vectors[row, layer] = edit.vector
    scorer = ModelScorer(
        chat,
        vectors,
        harmful=prompts["harmful"],
        harmless=prompts["harmless"],
        refusal_tokens=refusal_tokens,
        progress=progress,
    )
    scorer.score(
        [
            Part(candidate=(row, layer), score=_MEASURED[dataset][0], start=0, stop=len(own))
            for row, (dataset, _, _) in enumerate(edits)
            for own in [prompts[dataset]]
        ]
    )
    rows: list[FirstTokenMetric] = []
    for dataset, (score, _, _) in _MEASURED.items():
        rows.append(_row(dataset, "baseline", None, scorer.baseline_metrics(dataset == "harmful")))
        rows += [
            _row(dataset, name, seed, scorer.by_prompt(score, (row, layer)))
            for row, (of, name, seed) in enumerate(edits)
            if of == dataset
        ]
    return ControlSpread(rows=tuple(rows))


def _row(
    dataset: str, condition: Condition, seed: int | None, metrics: Sequence[float]
) -> FirstTokenMetric:
    """An intervention may make a metric NaN; then there is no mean."""
    mean = fmean(metrics)
    return FirstTokenMetric(
        dataset=dataset,
        condition=condition,
        seed=seed,
        mean=mean if math.isfinite(mean) else None,
        refusing=fmean(metric > 0 for metric in metrics),
        n=len(metrics),
    )
