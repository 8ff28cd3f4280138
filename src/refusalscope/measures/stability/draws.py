"""Directions at one place from some of the prompts, by any estimator."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from refusalscope.activations.estimators import estimate
from refusalscope.activations.moments import Moments
from refusalscope.measures.stability.record import Spread
from refusalscope.results.estimator_records import Estimator

_OF_DRAWS = (0.025, 0.975)


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """resid_pre of both kinds of training prompts at the place of the direction, in float64."""

    estimator: Estimator
    harmful: Float[Tensor, "harmful d_model"]
    harmless: Float[Tensor, "harmless d_model"]

    def direction(
        self, harmful: Sequence[int] | None = None, harmless: Sequence[int] | None = None
    ) -> Float[Tensor, " d_model"]:
        """The direction from these prompts; all where None.

        Raises:
            NumericalError: the estimator is not defined on them.
        """
        kinds = ((self.harmful, harmful), (self.harmless, harmless))
        own = [_moments(rows if some is None else rows[list(some)]) for rows, some in kinds]
        return estimate(self.estimator, harmful=own[0], harmless=own[1])[0, 0]

    def halves(self, n_draws: int, *, seed: int) -> Iterator[float]:
        """Cosines of two directions that share no prompt, each from half of both kinds."""
        rng = np.random.default_rng([seed, 0])
        for _ in range(n_draws):
            orders = [rng.permutation(len(rows)).tolist() for rows in (self.harmful, self.harmless)]
            middles = [len(order) // 2 for order in orders]
            first, second = (
                self.direction(*(order[part] for order, part in zip(orders, parts, strict=True)))
                for parts in (
                    [slice(None, middle) for middle in middles],
                    [slice(middle, None) for middle in middles],
                )
            )
            yield cosine_similarity(first, second, dim=0).item()

    def smaller(self, n: int, n_draws: int, *, seed: int) -> Iterator[Float[Tensor, " d_model"]]:
        """Directions from `n` prompts of each kind, drawn without replacement."""
        rng = np.random.default_rng([seed, n])
        for _ in range(n_draws):
            yield self.direction(
                *(rng.permutation(len(rows))[:n].tolist() for rows in (self.harmful, self.harmless))
            )


def spread(values: Sequence[float]) -> Spread:
    """The mean, and the quantiles between which 95 % of the draws lie."""
    low, high = np.quantile(values, _OF_DRAWS)
    return Spread(mean=float(np.mean(values)), low=float(low), high=float(high))


def _moments(rows: Float[Tensor, "prompt d_model"]) -> Moments:
    """As if it were a model of one layer and one position."""
    return Moments(
        means=rows.mean(0)[None, None],
        variances=rows.var(0, correction=0)[None, None],
        kept=(True,) * len(rows),
    )
