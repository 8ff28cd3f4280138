"""Cross-entropy of a text under a model (paper section 4.3, Table 9)."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from refusalscope.errors import InputError, NumericalError

# Bounds the float64 copy to 128 MiB; the logits of one batch can be many times that.
NUMBERS_AT_A_TIME = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenNLL:
    """Negative log-likelihood summed over tokens; sums of batches add up."""

    total: float
    """Nats, accumulated in float64."""
    n_tokens: int

    def __add__(self, other: "TokenNLL") -> "TokenNLL":
        return TokenNLL(total=self.total + other.total, n_tokens=self.n_tokens + other.n_tokens)

    @property
    def mean(self) -> float:
        """Cross-entropy in nats per token.

        Raises:
            InputError: no token was counted.
        """
        if self.n_tokens == 0:
            raise InputError("a loss over 0 tokens is not defined; give texts with a scored token")
        return self.total / self.n_tokens


def token_nll(
    logits: Float[Tensor, "*batch pos d_vocab"],
    targets: Int[Tensor, "*batch pos"],
    mask: Bool[Tensor, "*batch pos"],
) -> TokenNLL:
    """Sum of -log p(target) over the positions where `mask` is true, and how many they are.

    Exact in float64 (logsumexp), whatever the dtype of the logits; in parts, so that memory does
    not grow with the vocabulary. Positions that are masked out do not matter, whatever they hold.

    Args:
        logits: What the model predicts *after* each position.
        targets: The token that came after each position: the input ids moved by one.
        mask: True where the prediction counts.

    Raises:
        InputError: a target that counts is outside the vocabulary.
        NumericalError: a loss that counts is NaN or infinite.
    """
    d_vocab = logits.shape[-1]
    counted = targets[mask]
    if counted.numel() and not 0 <= int(counted.min()) <= int(counted.max()) < d_vocab:
        raise InputError(
            f"targets range from {int(counted.min())} to {int(counted.max())} where the mask is "
            f"true; expected ids of a vocabulary of {d_vocab} tokens"
        )
    rows = max(1, NUMBERS_AT_A_TIME // d_vocab)
    total = 0.0
    for some_logits, some_targets in zip(
        logits[mask].split(rows), counted.long().split(rows), strict=True
    ):
        exact = some_logits.double()
        hit = exact.gather(-1, some_targets[:, None])[:, 0]
        total += float((exact.logsumexp(-1) - hit).sum())
    if not -float("inf") < total < float("inf"):
        raise NumericalError(
            f"the loss over {counted.numel()} tokens is {total}; load the model in bfloat16 or "
            f"float32, or use a smaller coefficient"
        )
    return TokenNLL(total=total, n_tokens=counted.numel())
