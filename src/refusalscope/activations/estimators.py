"""Candidate directions from means and variances: the paper's estimator, and four beside it.

Difference in means weighs a channel by how far it moves, in the units of the stream. In some models
one residual channel is hundreds of times larger than the others (Gemma 3 among them); it then owns
the difference whether or not it says anything of refusal, and no candidate passes the paper's rule.
The estimators here weigh such a channel less. All of them are functions of the same moments.

Loud is a channel by harmless prompts alone, and never by the difference: who leaves out what the
direction points at would remove signal by construction. Source of the first three:
https://github.com/abhishek9909/loud-channel-abliteration (2026, MIT).
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refusalscope.activations.difference_in_means import difference_in_means
from refusalscope.activations.moments import Moments
from refusalscope.errors import NumericalError
from refusalscope.results.estimator_records import Estimator

LOUD = 50.0
"""A channel is loud whose |mean| on harmless prompts exceeds this many times the median one's."""


def loud_bound(harmless: Float[Tensor, "*site d_model"]) -> Float[Tensor, "*site one"]:
    """Return 50 times the median over channels of |mean|, at each site.

    Args:
        harmless: Means over harmless prompts.
    """
    return LOUD * harmless.abs().median(dim=-1, keepdim=True).values


def loud_channels(harmless: Float[Tensor, "*site d_model"]) -> Bool[Tensor, "*site d_model"]:
    """Return which channels are loud: |mean| on harmless prompts above `loud_bound`.

    Blind to the scale of the stream, and to the harmful prompts.

    Args:
        harmless: Means over harmless prompts.
    """
    return harmless.abs() > loud_bound(harmless)


def masked(harmful: Moments, harmless: Moments) -> Float[Tensor, "pos layer d_model"]:
    """Difference in means with the loud channels set to zero.

        r_c = 0 where |mean_c(harmless)| > 50 median_k |mean_k(harmless)|, else delta_c

    The recipe `r1_masked` of the source above. Where no channel is loud it is difference in means,
    bit for bit.

    Raises:
        NumericalError: a mean is NaN or infinite.
    """
    difference = _difference(harmful, harmless)
    return torch.where(loud_channels(harmless.means), 0.0, difference)


def winsorised(harmful: Moments, harmless: Moments) -> Float[Tensor, "pos layer d_model"]:
    """Difference of the means after both are clipped to the loud bound.

        r = clip(mean(harmful), -b, b) - clip(mean(harmless), -b, b),  b = `loud_bound`

    After `r3_winsorized` of the source above, which clips each prompt's activations to a quantile
    over channels. Here the means are clipped, so that it is a function of moments: the same where a
    channel is beyond the bound on all prompts, as loud ones are. Such a channel cancels, as if it
    were masked; one that is loud on one kind of prompts alone keeps what lies within the bound.

    Raises:
        NumericalError: a mean is NaN or infinite.
    """
    bound = loud_bound(harmless.means)
    _difference(harmful, harmless)  # an infinite mean is an error, which clipping would hide
    return difference_in_means(
        harmful=harmful.means.clamp(-bound, bound), harmless=harmless.means.clamp(-bound, bound)
    )


def discriminant(harmful: Moments, harmless: Moments) -> Float[Tensor, "pos layer d_model"]:
    """Linear discriminant with a diagonal covariance: each channel over its own variance.

        w_c = delta_c / (var_c + lambda),  r = (delta . w / w . w) w

    var is the mean of both kinds' variances (n - 1), lambda its median over the channels that vary:
    an ordinary channel is weighed about as in difference in means, a loud one by what it says.
    After `r2_standardized` of the source above, with two departures. Its lambda is a thousandth of
    the median, which makes the best readout and rotates the vector on every model. And it has the
    length of the plain difference, which in a loud model is the loud channel's; here r has the
    distance of both means along it, so adding r moves the harmless mean to where the harmful one is
    along r, as with difference in means.

    Raises:
        NumericalError: a mean is NaN or infinite, or no channel varies where the means differ.
    """
    difference = _difference(harmful, harmless)
    variance = (_unbiased(harmful) + _unbiased(harmless)) / 2
    ridge = torch.where(variance > 0, variance, torch.nan).nanmedian(dim=-1, keepdim=True).values
    is_zero = ~difference.any(dim=-1, keepdim=True)
    if bool((ridge.isnan() & ~is_zero).any()):
        raise NumericalError(
            f"no channel varies over {harmful.n} harmful and {harmless.n} harmless prompts, so "
            f"the discriminant is not defined; give more and differing training instructions, or "
            f"another estimator"
        )
    weights = torch.where(is_zero, 0.0, difference / (variance + ridge))
    return _as_far_as_the_means(weights, difference)


def projected(harmful: Moments, harmless: Moments) -> Float[Tensor, "pos layer d_model"]:
    """Difference in means without its component along the harmless mean.

        r = delta - m (m . delta) / (m . m),  m = mean(harmless)

    The projected direction of grimjim (2025),
    https://huggingface.co/blog/grimjim/projected-abliteration: what is left says nothing of how
    strongly the stream lies along where harmless prompts lie anyway. Where one channel is most of
    the harmless mean, most of that channel goes.

    Raises:
        NumericalError: a mean is NaN or infinite, or the harmless mean is zero.
    """
    difference, mean = _difference(harmful, harmless), harmless.means
    square = (mean**2).sum(-1, keepdim=True)
    if not bool((square > 0).all()):
        raise NumericalError(
            "the mean of the harmless prompts is zero at a site, so nothing can be projected off "
            "it; choose another estimator"
        )
    along = (mean * difference).sum(-1, keepdim=True) / square
    return difference - along * mean


def estimate(
    name: Estimator, *, harmful: Moments, harmless: Moments
) -> Float[Tensor, "pos layer d_model"]:
    """Candidate directions by the estimator of that name, in float64, in the stream's units.

    A site where both means are equal to rounding has an exact zero by each of them.

    Raises:
        NumericalError: a mean is NaN or infinite, or the estimator is not defined on these.
    """
    return _BY_NAME[name](harmful, harmless)


def _difference(harmful: Moments, harmless: Moments) -> Float[Tensor, "pos layer d_model"]:
    return difference_in_means(harmful=harmful.means, harmless=harmless.means)


def _unbiased(own: Moments) -> Float[Tensor, "pos layer d_model"]:
    """The variance over n - 1; zero of a single prompt."""
    return own.variances * (own.n / max(own.n - 1, 1))


def _as_far_as_the_means(
    weights: Float[Tensor, "*site d_model"], difference: Float[Tensor, "*site d_model"]
) -> Float[Tensor, "*site d_model"]:
    """Along `weights`, as long as the difference is along them; zero where they are zero."""
    square = (weights**2).sum(-1, keepdim=True)
    along = (weights * difference).sum(-1, keepdim=True)
    return torch.where(square > 0, weights * (along / square), 0.0)


_BY_NAME: dict[Estimator, Callable[[Moments, Moments], Float[Tensor, "pos layer d_model"]]] = {
    "difference_in_means": _difference,
    "masked": masked,
    "winsorised": winsorised,
    "discriminant": discriminant,
    "projected": projected,
}
