"""Cross-entropy of given answers under each condition, teacher-forced."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from refusalscope.errors import InputError
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.metrics.cross_entropy import token_nll
from refusalscope.models.batches import by_length, pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.results.records import Condition, DatasetLoss


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredPrompt:
    """A prompt with the answer whose loss is taken."""

    prompt: Prompt
    answer: tuple[int, ...]


def answered(
    chat: ChatModel, prompts: Sequence[Prompt], answers: Sequence[str]
) -> list[AnsweredPrompt]:
    """Pair prompts with tokenized answers; empty answers are left out, as they have no token."""
    return [
        AnsweredPrompt(
            prompt=prompt,
            answer=tuple(chat.tokenizer(answer, add_special_tokens=False).input_ids),
        )
        for prompt, answer in zip(prompts, answers, strict=True)
        if answer
    ]


@torch.inference_mode()
def completion_loss(
    chat: ChatModel,
    texts: Sequence[AnsweredPrompt],
    *,
    dataset: str,
    interventions: Mapping[Condition, Intervention | None],
    batch_size: int = 32,
) -> list[DatasetLoss]:
    """Cross-entropy in nats per answer token under each condition, token-weighted.

    As in the paper (section 4.3, appendix G): only answer tokens count, from the one predicted by
    the last post-instruction token on; no end-of-turn token is scored.

    Raises:
        InputError: no token was scored.
        NumericalError: a loss is NaN or infinite.
    """
    whole = [Prompt(ids=t.prompt.ids + t.answer, n_post=t.prompt.n_post) for t in texts]
    rows = []
    for condition, intervention in interventions.items():
        total, n_tokens = 0.0, 0
        for indices in by_length(whole, batch_size=batch_size):
            batch = pad([whole[i] for i in indices], pad_id=chat.pad_id, device=chat.device)
            mask = torch.zeros_like(batch.input_ids, dtype=torch.bool)
            for row, i in enumerate(indices):
                mask[row, len(texts[i].prompt.ids) - 1 : len(whole[i].ids) - 1] = True
            with intervene(chat.model, chat.anatomy, [intervention] * len(indices)):
                logits = chat.model(
                    input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
                ).logits
            nll = token_nll(logits[:, :-1], batch.input_ids[:, 1:], mask[:, :-1])
            total += nll.total
            n_tokens += nll.n_tokens
        rows.append(_row(dataset, condition, total, n_tokens, len(texts)))
    return rows


def _row(
    dataset: str, condition: Condition, total: float, n_tokens: int, n_texts: int
) -> DatasetLoss:
    if n_tokens == 0:
        raise InputError(
            f"dataset {dataset!r} has no answer token to score; its completions are all empty"
        )
    return DatasetLoss(
        dataset=dataset,
        condition=condition,
        loss=total / n_tokens,
        n_tokens=n_tokens,
        n_texts=n_texts,
    )
