"""The refusal metric: log-odds that the next token begins a refusal (paper section 2.3)."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.errors import InputError, NumericalError

PAPER_EPSILON = 1e-8
REFUSAL_METRIC_BOUND = math.log((1 + PAPER_EPSILON) / PAPER_EPSILON)
"""18.42: the largest value that the paper's code can return, because of its 1e-8."""


def refusal_metric(
    logits: Float[Tensor, "prompt d_vocab"], refusal_tokens: Sequence[int]
) -> Float[Tensor, " prompt"]:
    """Log-odds of refusal at the next token, in nats, clipped at +-18.42.

    log P - log(1 - P), P being the probability of `refusal_tokens` together: Arditi et al. (2024),
    https://arxiv.org/abs/2406.11717, section 2.3. The clip is the bound that the 1e-8 of their code
    implies, so that one prompt weighs no more in a mean than it does there; inside it the value is
    exact. `paper_refusal_metric` is theirs to the letter. A constant added to all logits changes
    nothing.

    Returns:
        float64, positive where refusal is the likelier.

    Raises:
        InputError: no prompt, or `refusal_tokens` are empty, repeated, outside the vocabulary or
            the whole of it.
        NumericalError: a logit is NaN or +infinity, or all logits of a prompt are -infinity.
    """
    return refusal_log_odds(logits, refusal_tokens).clamp(
        -REFUSAL_METRIC_BOUND, REFUSAL_METRIC_BOUND
    )


def refusal_log_odds(
    logits: Float[Tensor, "prompt d_vocab"], refusal_tokens: Sequence[int]
) -> Float[Tensor, " prompt"]:
    """The refusal metric without its clip: exact in float64, through logsumexp on both sides.

    log P - log(1 - P) = logsumexp of the refusal logits - logsumexp of all others. Infinite only
    where logits of -infinity rule one side out.

    Raises:
        InputError: as `refusal_metric`.
        NumericalError: as `refusal_metric`.
    """
    _require_tokens(refusal_tokens, d_vocab=logits.shape[-1])
    _require_logits(logits)
    ids = torch.tensor(list(refusal_tokens), device=logits.device)
    exact = logits.double()
    refusal = exact.index_select(-1, ids).logsumexp(-1)
    others = exact.index_fill(-1, ids, -math.inf).logsumexp(-1)
    return refusal - others


def paper_refusal_metric(
    logits: Float[Tensor, "prompt d_vocab"], refusal_tokens: Sequence[int]
) -> Float[Tensor, " prompt"]:
    """The refusal metric as the paper's code computes it: log(P + 1e-8) - log(1 - P + 1e-8).

    Softmax in float64, then the sum over `refusal_tokens`. Differs from `refusal_metric` by less
    than 0.001 up to log-odds of +-11 and by log 2 where the clip begins.

    Raises:
        InputError: as `refusal_metric`.
        NumericalError: as `refusal_metric`.
    """
    _require_tokens(refusal_tokens, d_vocab=logits.shape[-1])
    _require_logits(logits)
    ids = torch.tensor(list(refusal_tokens), device=logits.device)
    refusal = logits.double().softmax(-1).index_select(-1, ids).sum(-1)
    return (refusal + PAPER_EPSILON).log() - (1 - refusal + PAPER_EPSILON).log()


def _require_tokens(refusal_tokens: Sequence[int], *, d_vocab: int) -> None:
    if not refusal_tokens:
        raise InputError(
            "refusal_tokens is empty; give the ids of the tokens that a refusal of this model "
            "begins with"
        )
    outside = [token for token in refusal_tokens if not 0 <= token < d_vocab]
    if outside:
        raise InputError(
            f"refusal token {outside[0]} is outside the vocabulary of {d_vocab} tokens; give ids "
            f"from 0 to {d_vocab - 1} of this model's tokenizer"
        )
    repeated = [token for token in refusal_tokens if list(refusal_tokens).count(token) > 1]
    if repeated:
        raise InputError(f"refusal token {repeated[0]} is given more than once; give each id once")
    if len(refusal_tokens) == d_vocab:
        raise InputError(
            f"refusal_tokens holds all {d_vocab} tokens of the vocabulary, so that nothing is left "
            f"that is not a refusal; give fewer"
        )


def _require_logits(logits: Float[Tensor, "prompt d_vocab"]) -> None:
    if logits.shape[0] == 0:
        raise InputError("logits of 0 prompts given; the refusal metric needs at least one")
    # A row's maximum is NaN, +infinity or (nothing left possible) -infinity just where it is unfit.
    unfit = ~logits.amax(-1).isfinite()
    if unfit.any():
        first = int(unfit.nonzero()[0])
        raise NumericalError(
            f"the logits of {int(unfit.sum())} of {logits.shape[0]} prompts hold NaN or infinity "
            f"(the first is prompt {first}); load the model in bfloat16 or float32, or use a "
            f"smaller coefficient"
        )
