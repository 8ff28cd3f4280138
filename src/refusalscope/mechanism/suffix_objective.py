"""How far a suffix is from making a model answer a few prompts, and where a change would help."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache

from refusalscope.engine.continued import beginning, continued, embedding_gradient
from refusalscope.engine.halving import is_out_of_memory
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.embedding import token_gradient
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
        for index in range(len(self.prompts)):
            total += torch.cat(self._of_each(index, suffixes, partial(self._loss, index)))
        return total / len(self.prompts)

    def gradient(self, suffix: Int[Tensor, " suffix"]) -> Float[Tensor, "suffix d_vocab"]:
        """The gradient of the loss with respect to the one-hot tokens of the suffix."""
        gradients = []
        for index, prompt in enumerate(self.prompts):
            rows = self._rows(index, suffix[None])
            start = rows.shape[1] - prompt.n_post - len(suffix)
            gradients.append(
                embedding_gradient(
                    self.chat,
                    rows[0],
                    slice(start, start + len(suffix)),
                    partial(_loss, target=self.targets[index]),
                    past=self._past(index),
                )
            )
        return token_gradient(self.chat.model, torch.stack(gradients).mean(0))

    def logits(self, suffixes: Int[Tensor, "candidate suffix"]) -> Float[Tensor, "candidate vocab"]:
        """What follows the first prompt with each suffix."""
        return torch.cat(self._of_each(0, suffixes, lambda logits: logits))

    def _of_each(
        self, index: int, suffixes: Tensor, reduce: Callable[[Tensor], Tensor]
    ) -> list[Tensor]:
        n_tokens = len(self.prompts[index].ids) + suffixes.shape[1]
        return continued(
            self.chat,
            self._rows(index, suffixes),
            reduce,
            past=self._past(index),
            rows_per_batch=max(1, self.tokens_per_batch // n_tokens),
        )

    def _loss(self, index: int, logits: Tensor) -> Tensor:
        return _loss(logits, self.targets[index]).cpu()

    def _past(self, index: int) -> Cache | None:
        return self.prefixes[index] if self.prefixes else None

    def _rows(self, index: int, suffixes: Tensor) -> Int[Tensor, "candidate pos"]:
        """The tokens of one prompt that are to be run: without what is cached."""
        prompt, n = self.prompts[index], len(suffixes)
        cut = len(prompt.ids) - prompt.n_post
        before = () if self.prefixes else prompt.ids[:cut]
        parts = [_repeated(before, n), suffixes.cpu(), _repeated(prompt.ids[cut:], n)]
        return torch.cat(parts, dim=1)


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
            prefixes=tuple(beginning(chat, p.ids[: len(p.ids) - p.n_post]) for p in prompts),
            tokens_per_batch=tokens_per_batch,
        )
        probe = torch.tensor([prompts[0].ids[: max(2, len(prompts[0].ids) // 2)]])
        own, whole = (objective.logits(probe) for objective in (cached, plain))
        agrees = bool((own - whole).abs().max() <= _TOLERANCE * whole.abs().max())
    except _CANNOT as error:
        if is_out_of_memory(error):
            raise
        return plain
    return cached if agrees else plain


def _loss(logits: Float[Tensor, "candidate d_vocab"], target: int) -> Float[Tensor, " candidate"]:
    return -logits.double().log_softmax(-1)[:, target]


def _repeated(ids: Sequence[int], n: int) -> Int[Tensor, "candidate pos"]:
    return torch.tensor(ids, dtype=torch.long).expand(n, -1)
