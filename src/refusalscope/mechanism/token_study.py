"""Which first tokens the refusal metric rests on, and how often it errs (paper appendix B)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.activations.next_token import mean_next_token_probabilities, refusal_metrics
from refusalscope.errors import InputError
from refusalscope.metrics.intervals import rate_of
from refusalscope.metrics.refusal_tokens import propose_refusal_tokens
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.models.tokens import decode
from refusalscope.results.mechanism_maps import TokenProbability, TokenStudy
from refusalscope.results.records import Rate

N_SHOWN = 10


def token_study(
    chat: ChatModel,
    *,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    refusal_tokens: Sequence[int],
    tested: Sequence[Prompt],
    refused: Sequence[bool],
    batch_size: int = 32,
) -> TokenStudy:
    """Mean first-token probabilities, the metric of every prompt, and proposed refusal tokens.

    Paper Figures 9 and 10. The paper reads the tokens off by eye; here they are proposed (see
    `propose_refusal_tokens`) and tested: a metric above 0 says refusal, and the error is the share
    of completions of which the phrases say otherwise.

    Args:
        tested: Prompts that were completed, none of them in the other sets.
        refused: Whether each completion holds a refusal phrase.
    """
    means = [
        mean_next_token_probabilities(chat, prompts, batch_size=batch_size)
        for prompts in (harmful, harmless)
    ]
    metrics = [
        refusal_metrics(chat, prompts, refusal_tokens, batch_size=batch_size)
        for prompts in (harmful, harmless)
    ]
    try:
        proposed = [token.id for token in propose_refusal_tokens(*means)]
    except InputError:
        proposed = []

    def error(tokens: Sequence[int]) -> Rate:
        says = refusal_metrics(chat, tested, tokens, batch_size=batch_size) > 0
        return rate_of([said != was for said, was in zip(says.tolist(), refused, strict=True)])

    return TokenStudy(
        n_harmful=len(harmful),
        n_harmless=len(harmless),
        harmful=_likeliest(chat, means[0]),
        harmless=_likeliest(chat, means[1]),
        harmful_metric=tuple(metrics[0].tolist()),
        harmless_metric=tuple(metrics[1].tolist()),
        proposed=_named(chat, means[0], proposed),
        error=error(proposed) if proposed else None,
        error_in_use=error(refusal_tokens),
    )


def _likeliest(chat: ChatModel, means: Float[Tensor, " d_vocab"]) -> tuple[TokenProbability, ...]:
    # topk leaves open which of two equal tokens comes first; a stable sort does not.
    order = torch.sort(means, descending=True, stable=True).indices
    return _named(chat, means, order[:N_SHOWN].tolist())


def _named(
    chat: ChatModel, means: Float[Tensor, " d_vocab"], ids: Sequence[int]
) -> tuple[TokenProbability, ...]:
    return tuple(
        TokenProbability(
            id=i,
            text=decode(chat.tokenizer, [i], skip_special=False),
            probability=means[i].item(),
        )
        for i in ids
    )
