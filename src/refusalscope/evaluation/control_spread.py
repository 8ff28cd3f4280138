"""Several random directions in place of the direction: the refusal metric of the first token.

One random direction says nothing of how random directions differ. A forward pass a prompt is cheap
beside a completion, so every control has several here, the one that completions are written under
among them.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention, condition_intervention
from refusalscope.metrics.refusal_metric import refusal_metric
from refusalscope.models.batches import by_length, pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import last_token_logits
from refusalscope.models.prompts import Prompt
from refusalscope.results.control_records import ControlSpread, FirstTokenMetric
from refusalscope.results.files import sha256_text
from refusalscope.results.records import Condition

N_DRAWS = 5
"""Random directions of each control."""
_MEASURED: dict[str, tuple[Condition, Condition]] = {
    "harmful": ("ablation", "random_ablation"),
    "harmless": ("addition", "random_addition"),
}
"""By data set, what the direction does there and its control."""


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
    batch_size: int = 64,
    progress: Callable[[float], None] = lambda _: None,
) -> ControlSpread:
    """The refusal metric untouched, under the direction, and under each random direction.

    Args:
        prompts: By data set, `harmful` and `harmless`.
        vector: The direction r, not normalised.
        layer: Of `vector`.
    """
    rows: list[FirstTokenMetric] = []
    for dataset, (condition, control) in _MEASURED.items():
        under: list[tuple[Condition, int | None]] = [
            ("baseline", None),
            (condition, None),
            *((control, seed) for seed in seeds),
        ]
        for name, seed in under:
            edit = condition_intervention(
                name, vector=vector, layer=layer, control_seed=seeds[0] if seed is None else seed
            )
            metric = _metric(chat, prompts[dataset], edit, refusal_tokens, batch_size)
            mean = metric.mean().item()
            rows.append(
                FirstTokenMetric(
                    dataset=dataset,
                    condition=name,
                    seed=seed,
                    mean=mean if torch.isfinite(metric).all() else None,
                    refusing=(metric > 0).double().mean().item(),
                    n=len(metric),
                )
            )
            progress(len(metric))
    return ControlSpread(rows=tuple(rows))


def n_passes(prompts: Mapping[str, Sequence[Prompt]], n_draws: int = N_DRAWS) -> int:
    """Prompts that `control_spread` runs in all."""
    return (2 + n_draws) * sum(len(prompts[dataset]) for dataset in _MEASURED)


def _metric(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    edit: Intervention | None,
    refusal_tokens: tuple[int, ...],
    batch_size: int,
) -> Float[Tensor, " prompt"]:
    found = torch.empty(len(prompts), dtype=torch.float64)
    for indices in by_length(prompts, batch_size=batch_size):
        batch = pad([prompts[i] for i in indices], pad_id=chat.pad_id, device=chat.device)
        with intervene(chat.model, chat.anatomy, [edit] * len(indices)):
            logits = last_token_logits(chat.model, batch)
        # An intervention may make a logit NaN; that prompt's metric is then NaN, no error.
        broken = ~torch.isfinite(logits.nan_to_num(nan=torch.inf, neginf=0.0)).all(-1)
        metric = refusal_metric(logits.masked_fill(broken[:, None], 0.0), refusal_tokens)
        found[list(indices)] = metric.masked_fill(broken, torch.nan).to(found)
    return found
