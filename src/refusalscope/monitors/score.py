"""Scores of prompts by a monitor, in one pass that reads one layer."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

from refusalscope.activations.instruction_tokens import (
    Take,
    along,
    at_instruction_end,
    at_position,
    largest_window_mean,
    read_instructions_at,
    site_layers,
)
from refusalscope.engine.rows import Around, untouched
from refusalscope.errors import InputError
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.monitors.monitor import Monitor


def pooled_take(pool: str, token: int | None) -> Take:
    """Where a monitor of one vector a prompt reads."""
    if pool == "instruction":
        return at_instruction_end
    return at_position(-1 if token is None else token)


def score_prompts(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    monitor: Monitor,
    *,
    around: Around = untouched,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> Float[Tensor, " prompt"]:
    """The score of each prompt, in float64; higher is more harmful.

    Args:
        around: What is in force while a batch runs, such as an ablation.

    Raises:
        InputError: the monitor is one of another model.
        NumericalError: an activation is NaN or infinite.
    """
    require_same_shape(chat, monitor)
    facts, readout = monitor.facts, monitor.readout
    layer = facts.layer
    if facts.pool == "sliding":
        tokens = read_instructions_at(
            chat,
            prompts,
            site=facts.site,
            layers=[layer],
            take=along({layer: readout.vector}),
            finish=largest_window_mean(facts.window or 1),
            around=around,
            batch_size=batch_size,
            progress=progress,
        )
        return tokens[:, 0].double() + readout.offset
    rows = read_instructions_at(
        chat,
        prompts,
        site=facts.site,
        layers=[layer],
        take=pooled_take(facts.pool, facts.token),
        around=around,
        batch_size=batch_size,
        progress=progress,
    )
    return readout.score(rows[:, 0])


def require_same_shape(chat: ChatModel, monitor: Monitor) -> None:
    """Refuse a monitor of another model by what shows at once.

    Raises:
        InputError: width or number of layers differ, the site is not there, or the prompt is
            shorter than where it reads.
    """
    facts = monitor.facts
    if (facts.d_model, facts.n_layers) != (chat.d_model, chat.n_layers):
        raise InputError(
            f"the monitor is of {facts.model}, {facts.d_model} wide with {facts.n_layers} layers; "
            f"{chat.name} is {chat.d_model} wide with {chat.n_layers}: fit one on this model"
        )
    if facts.layer not in site_layers(chat, facts.site):
        raise InputError(
            f"the monitor reads {facts.site} of layer {facts.layer}, which {chat.name} has not; "
            f"fit one on this model"
        )
    if facts.pool == "direction" and facts.token not in chat.positions:
        raise InputError(
            f"the monitor reads token {facts.token} from the end of the prompt; the template of "
            f"{chat.name} has {len(chat.positions)} tokens there: fit one on this model"
        )
