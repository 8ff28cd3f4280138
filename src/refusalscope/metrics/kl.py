"""How far an intervention moves the next-token distribution (paper section 2.3, kl_score)."""

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.errors import InputError, NumericalError

PAPER_EPSILON = 1e-6


def kl_divergence(
    base_logits: Float[Tensor, "prompt d_vocab"], edited_logits: Float[Tensor, "prompt d_vocab"]
) -> Float[Tensor, " prompt"]:
    """KL(base || edited) of the next-token distribution, in nats, per prompt.

    Exact: sum of p (log p - log q) with log-softmax in float64. Departs from the code of Arditi et
    al. (2024), https://arxiv.org/abs/2406.11717, which adds 1e-6 inside both logarithms; that is
    `paper_kl_divergence`. A constant added to all logits of a prompt changes nothing.

    Returns:
        float64, never negative, 0 where both are the same.

    Raises:
        InputError: no prompt.
        NumericalError: a logit is NaN or +infinity, or the divergence is infinite because the
            edit made a token impossible.
    """
    _require_logits(base_logits, name="base_logits")
    _require_logits(edited_logits, name="edited_logits")
    base = base_logits.double().log_softmax(-1)
    edited = edited_logits.double().log_softmax(-1)
    # An impossible token (logit -infinity) adds nothing; 0 x infinity would be NaN.
    terms = torch.where(base.isneginf(), 0.0, base.exp() * (base - edited))
    divergence = terms.sum(-1)
    if divergence.isinf().any():
        first = int(divergence.isinf().nonzero()[0])
        raise NumericalError(
            f"KL(base || edited) of prompt {first} is infinite: edited_logits gives -infinity to a "
            f"token that base_logits makes possible; give both the same vocabulary mask"
        )
    # Rounding may leave -1e-17 where both agree.
    return divergence.clamp(min=0.0)


def paper_kl_divergence(
    base_logits: Float[Tensor, "prompt d_vocab"], edited_logits: Float[Tensor, "prompt d_vocab"]
) -> Float[Tensor, " prompt"]:
    """KL(base || edited) as the paper's code computes it, in nats, per prompt.

    Sum of p (log(p + 1e-6) - log(q + 1e-6)) in float64. Never infinite; can be slightly negative.

    Raises:
        InputError: no prompt.
        NumericalError: a logit is NaN or +infinity.
    """
    _require_logits(base_logits, name="base_logits")
    _require_logits(edited_logits, name="edited_logits")
    base = base_logits.double().softmax(-1)
    edited = edited_logits.double().softmax(-1)
    return (base * ((base + PAPER_EPSILON).log() - (edited + PAPER_EPSILON).log())).sum(-1)


def _require_logits(logits: Float[Tensor, "prompt d_vocab"], *, name: str) -> None:
    if logits.shape[0] == 0:
        raise InputError(f"{name} holds 0 prompts; the KL divergence needs at least one")
    unfit = ~logits.amax(-1).isfinite()
    if unfit.any():
        first = int(unfit.nonzero()[0])
        raise NumericalError(
            f"{name} of {int(unfit.sum())} of {logits.shape[0]} prompts hold NaN or infinity (the "
            f"first is prompt {first}); load the model in bfloat16 or float32, or use a smaller "
            f"coefficient"
        )
