"""Which first tokens mark a refusal, from how a model begins its answers (paper appendix B)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from refusalscope.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenShare:
    """Mean next-token probability of one token on harmful and on harmless prompts."""

    id: int
    harmful: float
    harmless: float


def propose_refusal_tokens(
    harmful: Float[Tensor, " d_vocab"],
    harmless: Float[Tensor, " d_vocab"],
    *,
    min_share: float = 0.05,
    min_ratio: float = 5.0,
) -> list[TokenShare]:
    """Tokens that begin answers to harmful prompts and seldom those to harmless ones.

    The paper reads them off by eye from the mean next-token probabilities (its Figure 9); here a
    token is proposed where its mean probability on harmful prompts is at least `min_share` and at
    least `min_ratio` times that on harmless ones.

    Args:
        harmful: Mean next-token probabilities over harmful prompts.
        harmless: The same over harmless prompts.

    Returns:
        Proposed tokens, most probable on harmful prompts first.

    Raises:
        InputError: no token separates the two sets.
    """
    found = [
        TokenShare(id=i, harmful=harmful[i].item(), harmless=harmless[i].item())
        for i in harmful.argsort(descending=True).tolist()
        if harmful[i] >= min_share and harmful[i] >= min_ratio * harmless[i]
    ]
    if not found:
        best = int((harmful - harmless).argmax())
        raise InputError(
            f"no first token marks refusals: the best, token {best}, has mean probability "
            f"{harmful[best].item():.3f} on harmful and {harmless[best].item():.3f} on harmless "
            f"prompts, at least {min_share} and {min_ratio} times as much were expected; name the "
            f"tokens with --refusal-token, or use a model that refuses"
        )
    return found
