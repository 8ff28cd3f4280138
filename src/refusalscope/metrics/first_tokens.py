"""Which first tokens mark a refusal, from what a model's refusals and answers begin with.

The paper reads them off by eye from mean next-token probabilities (appendix B, Figure 9), which
misses tokens that begin some refusals only. Here every token that begins a refusal is a candidate,
and the set is built by adding, each time, the one whose probability tells the two apart best.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refusalscope.errors import NoRefusalTokenError
from refusalscope.metrics.calibration import Cut, cut_of
from refusalscope.metrics.refusal_metric import REFUSAL_METRIC_BOUND

N_LIKELIEST = 1024
"""Tokens of a prompt whose probability is kept; what the others have is below 1e-3 each."""
_MOST_TOKENS = 8
_MOST_CANDIDATES = 24
_LEAST_GAIN = 1e-3
"""Nats of log-loss that a token must save to be added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstTokens:
    """The likeliest first tokens of answers to some prompts.

    Attributes:
        ids: Likeliest first.
        log_probabilities: Natural, of the next-token distribution after the prompt.
    """

    ids: Int[Tensor, "prompt k"]
    log_probabilities: Float[Tensor, "prompt k"]

    def metric(self, tokens: Sequence[int]) -> list[float]:
        """The refusal metric of each prompt, in nats; a token not among the likeliest counts as 0.

        Clipped as `metrics.refusal_metric.refusal_metric` is.
        """
        among = torch.isin(self.ids, torch.tensor(list(tokens)))
        share = self.log_probabilities.double().exp().masked_fill(~among, 0.0).sum(-1)
        odds = share.log() - torch.log1p(-share.clamp(max=1.0))
        return odds.clamp(-REFUSAL_METRIC_BOUND, REFUSAL_METRIC_BOUND).tolist()


class FirstTokensOf:
    """First tokens of so many prompts, put in as their passes come."""

    def __init__(self, n_prompts: int) -> None:
        self._rows: list[tuple[Tensor, Tensor] | None] = [None] * n_prompts

    def put(self, indices: Sequence[int], logits: Float[Tensor, "prompt d_vocab"]) -> None:
        """Take in the next-token logits of some prompts."""
        log_probabilities = logits.float().log_softmax(-1)
        top = log_probabilities.topk(min(N_LIKELIEST, logits.shape[-1]), dim=-1)
        ids, values = top.indices.cpu(), top.values.cpu()
        for row, index in enumerate(indices):
            self._rows[index] = (ids[row], values[row])

    def all(self) -> FirstTokens:
        """All of them, in the order of the prompts.

        Raises:
            ValueError: a prompt has not been put in.
        """
        rows = [row for row in self._rows if row is not None]
        if len(rows) < len(self._rows) or not rows:
            raise ValueError(f"{len(rows)} of {len(self._rows)} prompts were seen; all are needed")
        return FirstTokens(
            ids=torch.stack([ids for ids, _ in rows]),
            log_probabilities=torch.stack([values for _, values in rows]),
        )


def joined(parts: Sequence[FirstTokens]) -> FirstTokens:
    """Several one after the other."""
    return FirstTokens(
        ids=torch.cat([part.ids for part in parts]),
        log_probabilities=torch.cat([part.log_probabilities for part in parts]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSet:
    """A set of refusal tokens and how well it tells refusals from answers."""

    ids: tuple[int, ...]
    cut: Cut


def propose_by_answers(first: FirstTokens, refused: Sequence[bool]) -> list[TokenSet]:
    """Sets of first tokens that mark a refusal: of one token, two, and so on; the last is best.

    Args:
        first: Of each prompt.
        refused: Whether the answer to it is a refusal.

    Raises:
        NoRefusalTokenError: all prompts were refused or none, or no token begins more refusals than
            answers.
    """
    heads = first.ids[:, 0].tolist()
    began = Counter(head for head, is_refusal in zip(heads, refused, strict=True) if is_refusal)
    candidates = [token for token, _ in began.most_common(_MOST_CANDIDATES)]
    found: list[TokenSet] = []
    chosen: tuple[int, ...] = ()
    while len(chosen) < _MOST_TOKENS:
        tried = [
            TokenSet(ids=(*chosen, token), cut=cut)
            for token in candidates
            if token not in chosen
            and (cut := cut_of(first.metric((*chosen, token)), refused)) is not None
        ]
        best = min(tried, key=lambda one: one.cut.loss, default=None)
        if best is None or (found and found[-1].cut.loss - best.cut.loss < _LEAST_GAIN):
            break
        found.append(best)
        chosen = best.ids
    if not found:
        raise NoRefusalTokenError(
            f"no first token tells this model's {sum(refused)} refusals from its other "
            f"{len(refused) - sum(refused)} answers; name the tokens with --refusal-token"
        )
    return found
