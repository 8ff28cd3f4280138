"""LoRA fine-tuning of a chat model on pairs of instruction and answer (paper appendix I.2).

Through PEFT, in the extra `train`. The paper gives rank, alpha and epochs. Learning rate, batch
size and modules are ours: AdamW with a linear warm-up and half a cosine, every linear module but
the unembedding, no dropout, loss on the answers alone with the end of turn behind them.
"""

import math
import random
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from refusalscope.data.answer_pairs import AnswerPair
from refusalscope.engine.scored_forward import scored_logits
from refusalscope.errors import ChatTemplateError, InputError, NumericalError
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.chat_template import render_chat
from refusalscope.models.scored_text import ScoredText, scored_answer
from refusalscope.models.tokens import end_token
from refusalscope.results.files import open_as_umask_says

_WARM_UP = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraRecipe:
    """How an adapter is trained; rank, alpha and epochs are the paper's."""

    rank: int = 16
    alpha: int = 32
    epochs: int = 4
    learning_rate: float = 2e-4
    batch_size: int = 8
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What training left beside the adapter.

    Attributes:
        targets: Kinds of modules that have an adapter.
        epoch_losses: Mean loss of the answers' tokens in each epoch, in nats.
    """

    targets: tuple[str, ...]
    epoch_losses: tuple[float, ...]


def fine_tune(
    chat: ChatModel,
    pairs: Sequence[AnswerPair],
    recipe: LoraRecipe,
    out: Path,
    *,
    progress: Callable[[float], None] | None = None,
) -> Trained:
    """Train an adapter and save it to the folder `out`; the model is as before when it returns.

    The same pairs, recipe and model give the same adapter on one machine.

    Raises:
        ChatTemplateError: the model has no token that ends a turn.
        InputError: a pair does not fit into the model's context.
        NumericalError: the loss is NaN or infinite.
    """
    end = closing_token(chat)
    texts = [
        replace(text, ids=(*text.ids, end))
        for pair in pairs
        for text in [
            scored_answer(chat.prompt_format, pair.instruction, pair.answer, family=chat.family)
        ]
    ]
    _require_fit(chat, texts)
    with _quiet(), torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        config = LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        adapted: Any = get_peft_model(chat.model, config)
    try:
        losses = _train(chat, adapted, texts, recipe, progress)
        names = adapted.peft_config["default"].target_modules  # whole names in small models
        targets = sorted({name.rpartition(".")[2] for name in names})
        adapted.save_pretrained(str(out), save_embedding_layers=False)
    finally:
        _take_off(chat, adapted)
    (out / "README.md").unlink(missing_ok=True)  # a form that nobody has filled in
    open_as_umask_says(out)
    return Trained(targets=tuple(targets), epoch_losses=losses)


def _require_fit(chat: ChatModel, texts: Sequence[ScoredText]) -> None:
    lengths = [len(text.ids) for text in texts]
    long = [n for n in lengths if chat.context is not None and n > chat.context]
    if long:
        raise InputError(
            f"{len(long)} of {len(texts)} pairs do not fit into the model's context of "
            f"{chat.context} tokens (the longest has {max(long)}); shorten them or leave them out"
        )


@contextmanager
def with_adapter(chat: ChatModel, folder: Path) -> Generator[None]:
    """The model with a saved adapter on it, in place, until the context ends."""
    with _quiet():
        adapted = PeftModel.from_pretrained(chat.model, str(folder))
    try:
        yield
    finally:
        _take_off(chat, adapted)


def _take_off(chat: ChatModel, adapted: Any) -> None:  # noqa: ANN401 - PEFT's own
    """Give every module of the model its own weights back, untouched."""
    adapted.unload()
    chat.model.requires_grad_(False)


@contextmanager
def _quiet() -> Generator[None]:
    """Without PEFT's warnings of tied embeddings, and transformers' of what PEFT asks it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def closing_token(chat: ChatModel) -> int:
    """The token that ends an answer: the first control token behind one in the chat template.

    Without a chat template, the one that ends the user's turn, or the end of text.

    Raises:
        ChatTemplateError: there is none.
    """
    tokenizer = chat.tokenizer
    special = set(tokenizer.all_special_ids)
    candidates = [chat.prompt_format.post_instruction[0]]
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "boplin"}]
        text = render_chat(tokenizer, messages, what="an answer", add_generation_prompt=False)
        behind = text.rpartition("boplin")[2]
        candidates = list(tokenizer(behind, add_special_tokens=False).input_ids)
    found = next((token for token in candidates if token in special), end_token(tokenizer))
    if found is None:
        raise ChatTemplateError(
            f"the tokenizer of {chat.source} has no token that ends an answer; give it an eos_token"
        )
    return found


def _train(
    chat: ChatModel,
    adapted: nn.Module,
    texts: Sequence[ScoredText],
    recipe: LoraRecipe,
    progress: Callable[[float], None] | None,
) -> tuple[float, ...]:
    """Train the parameters that want a gradient; the mean loss of each epoch."""
    parameters = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=0.0)
    n_batches = math.ceil(len(texts) / recipe.batch_size)
    n_steps = recipe.epochs * n_batches
    losses = []
    for epoch in range(recipe.epochs):
        order = random.Random(f"{recipe.seed}/{epoch}").sample(range(len(texts)), len(texts))
        total, n_tokens = 0.0, 0
        for index in range(n_batches):
            chosen = order[index * recipe.batch_size : (index + 1) * recipe.batch_size]
            batch = [texts[i] for i in chosen]
            for group in optimizer.param_groups:
                done = (epoch * n_batches + index + 1) / n_steps
                group["lr"] = recipe.learning_rate * _schedule(done)
            loss = _loss(chat, batch)
            if not bool(torch.isfinite(loss)):
                raise NumericalError(
                    f"the loss of fine-tuning is {loss.item()} in epoch {epoch + 1}; load the "
                    f"model in bfloat16 or float32, or give a smaller --learning-rate"
                )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            scored = sum(text.n_scored for text in batch)
            total, n_tokens = total + loss.item() * scored, n_tokens + scored
            if progress:
                progress(len(batch))
        losses.append(total / n_tokens)
    return tuple(losses)


def _loss(chat: ChatModel, texts: Sequence[ScoredText]) -> Float[Tensor, ""]:
    logits, targets = scored_logits(chat.model, texts, pad_id=chat.pad_id, device=chat.device)
    return nn.functional.cross_entropy(logits.float(), targets)


def _schedule(done: float) -> float:
    """Factor of the learning rate: linear to 1, then half a cosine to 0."""
    if done < _WARM_UP:
        return done / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))
