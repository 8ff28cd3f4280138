"""How far a suffix is from making a model answer a few prompts, and where a change would help."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache

from refusalscope.models.batches import Batch
from refusalscope.models.cache_rows import cache_rows
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.embedding import embedding_shape, token_gradient
from refusalscope.models.forward import cached, last_token_logits, prefix_cache
from refusalscope.models.hooks import edit_outputs
from refusalscope.models.prompts import Prompt

_TOLERANCE = 1e-3
_CANNOT = (TypeError, IndexError, ValueError, RuntimeError, AttributeError)
"""What an architecture raises that does not go on from a cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuffixObjective:
    """The mean over prompts of -log p(target), in nats, as a function of the suffix.

    The target of a prompt is the first token of the answer that is wanted in place of a refusal.

    Attributes:
        prompts: Without the suffix.
        prefixes: Keys and values of each prompt up to the suffix; empty where the architecture
            cannot go on from them, and whole prompts are run instead.
    """

    chat: ChatModel
    prompts: tuple[Prompt, ...]
    targets: tuple[int, ...]
    prefixes: tuple[Cache, ...]
    tokens_per_batch: int

    def losses(self, suffixes: Int[Tensor, "candidate suffix"]) -> Float[Tensor, " candidate"]:
        """The loss of each suffix, in float64."""
        total = torch.zeros(len(suffixes), dtype=torch.float64)
        for index, prompt in enumerate(self.prompts):
            rows = max(1, self.tokens_per_batch // (len(prompt.ids) + suffixes.shape[1]))
            parts = []
            for some in suffixes.split(rows):
                batch, past = self._batch(index, some)
                logits = last_token_logits(self.chat.model, batch, past=past)
                parts.append(_loss(logits, self.targets[index]).cpu())
            total += torch.cat(parts)
        return total / len(self.prompts)

    def gradient(self, suffix: Int[Tensor, " suffix"]) -> Float[Tensor, "suffix d_vocab"]:
        """The gradient of the loss with respect to the one-hot tokens of the suffix."""
        with torch.inference_mode(mode=False):
            total = torch.zeros(len(suffix), embedding_shape(self.chat.model)[1])
            for index in range(len(self.prompts)):
                total += self._embedding_gradient(index, suffix)
            return token_gradient(self.chat.model, total / len(self.prompts))

    def _embedding_gradient(self, index: int, suffix: Tensor) -> Float[Tensor, "suffix width"]:
        """The gradient of one prompt's loss at the output of the embedding."""
        batch, past = self._batch(index, suffix[None])
        start = batch.input_ids.shape[1] - self.prompts[index].n_post - len(suffix)
        width = embedding_shape(self.chat.model)[1]
        shift = torch.zeros(len(suffix), width, requires_grad=True)

        def moved(hidden: Tensor) -> Tensor:
            parts = hidden.split([start, len(suffix), hidden.shape[1] - start - len(suffix)], dim=1)
            return torch.cat([parts[0], parts[1] + shift.to(hidden), parts[2]], dim=1)

        embedding = self.chat.model.get_input_embeddings()
        with torch.enable_grad(), edit_outputs([(embedding, moved)]):
            model = self.chat.model
            logits = model(input_ids=batch.input_ids, **cached(model, past)).logits[:, -1]
            loss = _loss(logits, self.targets[index]).sum()
        return torch.autograd.grad(loss, shift)[0]

    def _batch(self, index: int, suffixes: Tensor) -> tuple[Batch, Cache | None]:
        """The rows that are to be run for one prompt, and what comes before them."""
        prompt, n = self.prompts[index], len(suffixes)
        cut = len(prompt.ids) - prompt.n_post
        before = () if self.prefixes else prompt.ids[:cut]
        ids = torch.cat(
            [_repeated(before, n), suffixes.cpu(), _repeated(prompt.ids[cut:], n)], dim=1
        ).to(self.chat.device)
        past = None
        if self.prefixes:
            zeros = torch.zeros(n, dtype=torch.long, device=self.chat.device)
            past = cache_rows(self.prefixes[index], zeros)
        last = torch.full((n,), ids.shape[1] - 1, device=ids.device)
        return Batch(input_ids=ids, attention_mask=None, last=last), past


def suffix_objective(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    targets: Sequence[int],
    *,
    tokens_per_batch: int = 4096,
) -> SuffixObjective:
    """The objective on `prompts`, with their beginnings cached where that changes nothing.

    Whether it does is measured on the first prompt.
    """
    plain = SuffixObjective(
        chat=chat,
        prompts=tuple(prompts),
        targets=tuple(targets),
        prefixes=(),
        tokens_per_batch=tokens_per_batch,
    )
    try:
        cached = SuffixObjective(
            chat=chat,
            prompts=plain.prompts,
            targets=plain.targets,
            prefixes=tuple(_prefix(chat, prompt) for prompt in prompts),
            tokens_per_batch=tokens_per_batch,
        )
        probe = torch.tensor([prompts[0].ids[: max(2, len(prompts[0].ids) // 2)]])
        own, whole = (_logits(objective, probe) for objective in (cached, plain))
        agrees = bool((own - whole).abs().max() <= _TOLERANCE * whole.abs().max())
    except _CANNOT:
        return plain
    return cached if agrees else plain


def _loss(logits: Float[Tensor, "candidate d_vocab"], target: int) -> Float[Tensor, " candidate"]:
    return -logits.double().log_softmax(-1)[:, target]


def _logits(objective: SuffixObjective, suffixes: Tensor) -> Tensor:
    batch, past = objective._batch(0, suffixes)
    return last_token_logits(objective.chat.model, batch, past=past)


def _prefix(chat: ChatModel, prompt: Prompt) -> Cache:
    ids = torch.tensor([prompt.ids[: len(prompt.ids) - prompt.n_post]], device=chat.device)
    return prefix_cache(chat.model, ids)


def _repeated(ids: Sequence[int], n: int) -> Int[Tensor, "candidate pos"]:
    return torch.tensor(ids, dtype=torch.long).expand(n, -1)
