"""COSMIC's rule: a direction chosen by activations alone, without any refusal token.

Siu et al. (2025), COSMIC: generalized refusal direction identification in LLM activations,
https://arxiv.org/abs/2506.00085. A direction that mediates refusal makes harmful prompts look like
harmless ones when it is ablated, and harmless ones like harmful ones when it is added:

    S_comply = mean over L of cos(mean of ablated harmful, mean of harmless)
    S_refuse = mean over L of cos(mean of steered harmless, mean of harmful)

L is the tenth of layers in which both means, untouched, have the lowest cosine; activations are
resid_pre at the last token. Each score is put on 0 to 1 over the candidates, and the highest sum
wins whose KL is within the limit and whose layer is not among the last fifth.

Departs from the source: all candidates are scored on some of the prompts first, and on all of them
only those that lead, since every candidate costs a pass over both sets and no bound drops any.
"""

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.engine.rows import Step, at_last_token, engine_of, exact, taken_off
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.batches import Batch
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.hooks import observe_inputs
from refusalscope.models.prompts import Prompt, n_template_tokens
from refusalscope.selection.scorer import Candidate

SHARE_OF_LAYERS = 0.1
"""Layers in which activations are compared."""
N_WHOLE = 6
"""Candidates that are scored on all prompts, the best on the first ones."""
N_RANKED = 12
"""Candidates that are ranked: behind those the next best, by the first prompts alone."""
_FIRST = 4
"""One prompt in so many is among the first ones."""
_LEAST = 4
"""First prompts of each kind, at the least."""

_Means = Float[Tensor, "edit layer d_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CosmicRanking:
    """The candidates that lead by COSMIC's scores, before KL is asked.

    Attributes:
        ranked: The best first, each with the sum of both scores: `n_whole` of them on all prompts,
            the rest on the first ones.
        n_whole: Candidates that were scored on all prompts.
        layers: Where activations were compared.
        n_first: Prompts of each kind that all candidates were scored on, the fewer of both.
        passes: Forward passes of one prompt that it cost.
    """

    ranked: tuple[tuple[Candidate, float], ...]
    layers: tuple[int, ...]
    n_first: int
    n_whole: int
    passes: int


def rank_by_cosmic(
    chat: ChatModel,
    differences: Float[Tensor, "pos layer d_model"],
    candidates: Sequence[Candidate],
    *,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    batch_size: int = 32,
) -> CosmicRanking:
    """Rank candidates by how far they turn activations of each kind into those of the other.

    Args:
        candidates: None of them zero, all of layers that may be chosen.

    Raises:
        NumericalError: a candidate is not finite.
    """
    bases = [
        _mean_streams(chat, own, [None], range(chat.n_layers), batch_size)[0]
        for own in (harmful, harmless)
    ]
    apart = torch.nn.functional.cosine_similarity(bases[0], bases[1], dim=-1)
    n_layers = max(1, round(SHARE_OF_LAYERS * chat.n_layers))
    layers = tuple(sorted(apart.argsort()[:n_layers].tolist()))
    targets = (bases[1][list(layers)], bases[0][list(layers)])
    passes = len(harmful) + len(harmless)

    def scored(
        some: Sequence[Candidate], sets: tuple[Sequence[Prompt], Sequence[Prompt]]
    ) -> Float[Tensor, "two candidate"]:
        ablated = [Intervention(operator="ablate", vector=differences[c].float()) for c in some]
        added = [
            Intervention(operator="add", vector=differences[c].float(), layer=c[1]) for c in some
        ]
        return torch.stack(
            [
                _likeness(_mean_streams(chat, prompts, edits, layers, batch_size), target)
                for prompts, edits, target in zip(sets, (ablated, added), targets, strict=True)
            ]
        )

    first = (_first(harmful), _first(harmless))
    rough = scored(candidates, first)
    low, span = _range(rough)
    sums = ((rough - low) / span).sum(0)
    order = _order(sums)
    leading = [candidates[i] for i in order[:N_WHOLE]]
    behind = [(candidates[i], sums[i].item()) for i in order[N_WHOLE:N_RANKED]]
    whole = ((scored(leading, (harmful, harmless)) - low) / span).sum(0)
    n_first, n_all = sum(map(len, first)), len(harmful) + len(harmless)
    return CosmicRanking(
        ranked=(*((leading[i], whole[i].item()) for i in _order(whole)), *behind),
        layers=layers,
        n_first=min(map(len, first)),
        n_whole=len(leading),
        passes=passes + n_first * len(candidates) + n_all * len(leading),
    )


def _first(prompts: Sequence[Prompt]) -> Sequence[Prompt]:
    return prompts[:: max(1, min(_FIRST, len(prompts) // _LEAST))]


def _range(scores: Float[Tensor, "two candidate"]) -> tuple[Tensor, Tensor]:
    """The lowest of each score, and how far the highest is from it (1 where they are equal)."""
    finite = [row[row.isfinite()] for row in scores]
    low = torch.stack([row.min() if len(row) else row.new_zeros(()) for row in finite])
    high = torch.stack([row.max() if len(row) else row.new_ones(()) for row in finite])
    return low[:, None], torch.where(high > low, high - low, 1.0)[:, None]


def _order(sums: Float[Tensor, " candidate"]) -> list[int]:
    """Places of the finite ones, the highest first; of equal ones the first."""
    finite = [i for i, value in enumerate(sums.tolist()) if math.isfinite(value)]
    return sorted(finite, key=lambda i: (-sums[i].item(), i))


def _likeness(means: _Means, target: Float[Tensor, "layer d_model"]) -> Float[Tensor, " edit"]:
    return torch.nn.functional.cosine_similarity(means, target[None], dim=-1).mean(-1)


def _mean_streams(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    edits: Sequence[Intervention | None],
    layers: Sequence[int],
    batch_size: int,
) -> _Means:
    """Mean over prompts of resid_pre at the last token under each edit, on the CPU in float64."""
    sums = torch.zeros(len(edits), len(layers), chat.d_model, dtype=torch.float64)
    read = [chat.layers[layer] for layer in layers]

    @contextmanager
    def taking(batch: Batch) -> Generator[list[Tensor]]:
        taken: list[Tensor] = []

        def observe(hidden: Tensor) -> None:
            taken.append(exact(at_last_token(hidden, batch)))

        with observe_inputs([(layer, observe) for layer in read]):
            yield taken

    def streams(step: Step) -> Tensor:
        return torch.stack(taken_off(step.seen))

    n = len(prompts)
    engine = engine_of(chat, batch_size=batch_size)
    for rows, own in engine.run(
        [*prompts] * len(edits),
        streams,
        edits=[edit for edit in edits for _ in prompts],
        around=taking,
        n_shared=n_template_tokens(chat.prompt_format),
    ):
        sums.index_add_(0, torch.tensor([row // n for row in rows]), own.transpose(0, 1))
    return sums / n
