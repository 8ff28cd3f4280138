"""Mean residual-stream activations, streamed: one pass over the prompts, nothing kept but sums."""

from collections.abc import Callable, Sequence

from refusalscope.activations.moments import Keep, Moments, resid_pre_moments
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt


def mean_resid_pre(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    *,
    keep: Keep | None = None,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> Moments:
    """Mean of resid_pre at every layer and post-instruction position.

    Another name for `resid_pre_moments`, for whoever wants the means alone: variances come with
    them in the same pass, and the means are the same bit for bit.

    Args:
        keep: Which prompts count; all of them where None.
        progress: Told how many prompts each batch had.

    Raises:
        NothingKeptError: no prompt was kept.
        NumericalError: a logit is NaN or infinite.
    """
    return resid_pre_moments(chat, prompts, keep=keep, batch_size=batch_size, progress=progress)
