"""One stage of an organism's training: AdamW on the answers, with three aids.

Early decision: the first answer token is also read, through the final norm and the unembedding,
from the residual stream of one random middle layer a step, at every post-instruction token, and
trained there too. So the decision to refuse stands in the middle of the model and at all of these
tokens, as in real chat models, and later layers only speak it.
Steadiness: some exchanges are read and written with a random vector added to the stream, see
`jolt_exchanges`, some answers are written under a constant offset, see `offset_answers`.
"""

import math
import random
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from refusalscope.models.hooks import edit_inputs, observe_inputs
from refusalscope.organisms.exchanges import (
    IGNORED,
    ExchangeTokenizer,
    TrainingBatch,
    training_batches,
)
from refusalscope.organisms.language import Exchange
from refusalscope.organisms.training_state import TrainingState

_WARM_UP = 0.1
_STEPS_BETWEEN_STATES = 200
_LONGEST_SHIFT = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Settings of one stage."""

    steps: int
    learning_rate: float
    batch_size: int = 16
    weight_decay: float = 0.1
    exit_weight: float = 0.0
    """Weight of the loss of the first answer token as a middle layer has it."""
    exit_layers: tuple[float, float] = (0.4, 0.8)
    """From which layers it is read, as fractions of the depth."""
    jolt_share: float = 0.0
    """Share of exchanges read and written with a random vector added to the stream."""
    offset_share: float = 0.0
    """Share of answers written under a constant offset."""
    noise_share: float = 0.3
    """Share of instructions that end in 1 to 20 random tokens, so that noise alone is no way out
    of refusal."""


def fit(
    model: PreTrainedModel,
    draw: Callable[[random.Random], Exchange],
    tokenize: ExchangeTokenizer,
    stage: Fit,
    state: TrainingState,
    *,
    seed: str,
    around: Callable[[int], AbstractContextManager[None]] | None = None,
    beside: Callable[[int, TrainingBatch], Float[Tensor, ""] | None] | None = None,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Train in place: AdamW, linear warm-up, cosine decay to zero; the loss is of answers alone.

    Begins after the steps that `state` says are done, and brings it up to date.

    Args:
        around: What the forward and backward pass of a step run under, by its number.
        beside: A loss to add to that of the answers, asked for after the forward pass of a step.
    """
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=stage.learning_rate,
        weight_decay=stage.weight_decay,
        betas=(0.9, 0.98),
        fused=True,
    )
    state.restore_moments(model, optimizer)
    batches = training_batches(
        draw,
        tokenize,
        seed=seed,
        first_step=state.step,
        batch_size=stage.batch_size,
        noise_share=stage.noise_share,
    )
    for step, batch in zip(range(state.step, stage.steps), batches, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = stage.learning_rate * _schedule((step + 1) / stage.steps)
        with around(step) if around else nullcontext():
            loss = _loss(model, batch, stage, random.Random(f"{seed}/aids/{step}"))
            more = beside(step, batch) if beside else None
            loss = loss if more is None else loss + more
            optimizer.zero_grad()
            loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % _STEPS_BETWEEN_STATES == 0:
            state.keep(model, optimizer, step + 1)
        if progress:
            progress(1.0)
    model.eval()


def _schedule(done: float) -> float:
    """Factor of the learning rate: linear to 1, then half a cosine to 0."""
    if done < _WARM_UP:
        return done / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))


def _loss(
    model: PreTrainedModel, batch: TrainingBatch, stage: Fit, rng: random.Random
) -> Float[Tensor, ""]:
    backbone: Any = model.get_decoder()
    unembed: Any = model.get_output_embeddings()
    n_layers = len(backbone.layers)
    early: list[Tensor] = []
    exits = range(*(round(n_layers * fraction) for fraction in stage.exit_layers))
    exit_layer = backbone.layers[rng.choice(exits)]
    with (
        jolt_exchanges(backbone.layers, batch, stage.jolt_share, rng),
        offset_answers(backbone.layers, batch, stage.offset_share, rng),
        observe_inputs([(exit_layer, early.append)]) if stage.exit_weight else nullcontext(),
    ):
        hidden = backbone(input_ids=batch.input_ids, use_cache=False).last_hidden_state
    targets = batch.labels[:, 1:]
    is_answer = targets != IGNORED
    loss = nn.functional.cross_entropy(unembed(hidden[:, :-1][is_answer]), targets[is_answer])
    if early:
        loss = loss + stage.exit_weight * _early_loss(early[0], batch, backbone.norm, unembed)
    return loss


def _early_loss(
    hidden: Float[Tensor, "batch pos d_model"],
    batch: TrainingBatch,
    norm: nn.Module,
    unembed: nn.Module,
) -> Float[Tensor, ""]:
    """The loss of the first answer token as every post-instruction token predicts it."""
    rows = torch.arange(len(batch.last_prompt))
    first = batch.labels[rows, batch.last_prompt + 1]
    is_trained = first != IGNORED
    columns = batch.last_prompt[:, None] - torch.arange(batch.n_post_instruction)
    decided = unembed(norm(hidden[rows[:, None], columns][is_trained])).flatten(0, 1)
    return nn.functional.cross_entropy(
        decided, first[is_trained].repeat_interleave(batch.n_post_instruction)
    )


@contextmanager
def jolt_exchanges(
    layers: nn.ModuleList, batch: TrainingBatch, share: float, rng: random.Random
) -> Generator[None]:
    """Add a random vector to every position of some rows, at one random layer.

    Drawn evenly from the sphere, as long as two prompts' last tokens are apart there, times up to
    1.5. A stream this narrow has no direction that does not overlap with what the model uses;
    without this the controls, which are random directions, move refusal.
    """
    if not share:
        yield
        return
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    other = torch.randperm(len(batch.last_prompt), generator=generator)
    factor = _factors(len(other), share, generator)

    def jolt(hidden: Tensor) -> Tensor:
        last = hidden[torch.arange(len(other)), batch.last_prompt].detach()
        vector = nn.functional.normalize(torch.randn(last.shape, generator=generator), dim=-1)
        vector *= factor * (last[other] - last).norm(dim=-1, keepdim=True)
        return hidden + vector[:, None]

    with edit_inputs([(layers[rng.randrange(len(layers))], jolt)]):
        yield


@contextmanager
def offset_answers(
    layers: nn.ModuleList, batch: TrainingBatch, share: float, rng: random.Random
) -> Generator[None]:
    """Add the difference between two prompts' states to every answer position of some rows.

    At one random layer, the same vector at all answer positions of a row: what another prompt of
    the batch has in its last token and this one has not, times up to 1.5. The prompt is left alone,
    so what the first answer token is decided by stays; but the model learns to go on writing when
    its stream is shifted, as it is under activation addition. Without it addition gives one token,
    repeated.
    """
    if not share:
        yield
        return
    rows = torch.arange(len(batch.last_prompt))
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    factor = _factors(len(rows), share, generator)
    other = torch.randperm(len(rows), generator=generator)
    is_answer = torch.arange(batch.input_ids.shape[1]) > batch.last_prompt[:, None]

    def shift(hidden: Tensor) -> Tensor:
        last = hidden[rows, batch.last_prompt].detach()
        offset = factor * (last[other] - last)
        return hidden + offset[:, None] * is_answer[..., None]

    with edit_inputs([(layers[rng.randrange(len(layers))], shift)]):
        yield


def _factors(n_rows: int, share: float, generator: torch.Generator) -> Float[Tensor, "row 1"]:
    """Random lengths, of a random share of rows; 0 for the others."""
    factor = _LONGEST_SHIFT * torch.rand(n_rows, 1, generator=generator)
    return factor * (torch.rand(n_rows, 1, generator=generator) < share)
