"""Ways to estimate candidate directions, by name, and what was seen of single channels."""

from typing import Literal, get_args

from refusalscope.results.record import Record

Estimator = Literal["difference_in_means", "masked", "winsorised", "discriminant", "projected"]
"""A way from means and variances to candidates; the first is the paper's, and the default."""
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)
PLAIN: Estimator = "difference_in_means"
BESIDE: tuple[Estimator, ...] = ESTIMATORS[1:]
"""The others."""
OWNS = 0.5
"""The share of a difference above which its largest channel owns it.

The channel is then more than all others together: a direction without it has a cosine below 0.71
with difference in means. In models where the published method works the largest share was far below
(0.15 at the most over all positions and layers of Qwen2.5-Coder-0.5B, 0.11 of the bundled
organism), in Gemma-3-270M far above (0.93).
"""


class ChannelCheck(Record):
    """How far one channel owns the difference in means at one position and layer.

    Attributes:
        position: Counted from the end of the prompt, -1 is the last.
        channel: The one that moves most, 0-based.
        share: Its part of the squared norm of the difference, 0 to 1.
        ratio: Its |mean| on harmless prompts over the median channel's; None where that is 0.
        n_loud: Channels whose |mean| on harmless prompts exceeds 50 times the median one's.
        loud_share: Their part of the squared norm of the difference, 0 to 1.
        spread: Largest standard deviation of a channel over the median one's, over the square root
            of the width, on harmless prompts; None where the median channel does not vary.
        cosines: Of what each other estimator makes here with difference in means; None where it
            makes nothing.
    """

    position: int
    layer: int
    channel: int
    share: float
    ratio: float | None
    n_loud: int
    loud_share: float
    spread: float | None
    cosines: dict[Estimator, float | None]

    @property
    def owns(self) -> bool:
        """Whether one channel is more of the difference than all others together."""
        return self.share > OWNS
