"""Instructions and answers that do not fit into a model's context: counted, told, left out."""

import logging
from dataclasses import replace

from refusalscope.data.instruction import quoted
from refusalscope.errors import InstructionsError
from refusalscope.models.chat_model import ChatModel
from refusalscope.pipeline.instructions import InstructionSet, InstructionSets

_LOG = logging.getLogger(__name__)


def without_too_long(chat: ChatModel, sets: InstructionSets, *, n_suffix: int) -> InstructionSets:
    """The sets without the instructions whose prompts leave no room for an answer.

    What is left out is logged, and stands in the warnings of its set.

    Args:
        n_suffix: Tokens that are added to some of the prompts.

    Raises:
        InstructionsError: a set would be empty.
    """
    context = chat.context
    if context is None:
        return sets
    return {name: _fitting(chat, one, context, n_suffix) for name, one in sets.items()}


def _fitting(chat: ChatModel, given: InstructionSet, context: int, n_suffix: int) -> InstructionSet:
    lengths = [len(chat.prompt_format.encode(i.text).ids) for i in given.instructions]
    pairs = list(zip(given.instructions, lengths, strict=True))
    fitting = tuple(one for one, length in pairs if length + n_suffix < context)
    if len(fitting) == len(pairs):
        return given
    first = next(one for one, length in pairs if length + n_suffix >= context)
    line = (
        f"{len(pairs) - len(fitting)} of {len(pairs)} instructions of {given.name} do not fit into "
        f"the model's context of {context} tokens and are left out (the longest prompt has "
        f"{max(lengths)} tokens; the first is {quoted(first.text)})"
    )
    if not fitting:
        raise InstructionsError(f"{line}: none is left; give shorter instructions")
    _LOG.warning("%s", line)
    return replace(given, instructions=fitting, warnings=(*given.warnings, line))


def limited_answers(
    chat: ChatModel, sets: InstructionSets, names: tuple[str, ...], *, max_new_tokens: int
) -> tuple[str, ...]:
    """A line for each set with answers that end where the model's context does."""
    context = chat.context
    if context is None:
        return ()
    lines = []
    for name in names:
        prompts = chat.encode([one.text for one in sets[name].instructions])
        rooms = [context - len(prompt.ids) for prompt in prompts]
        short = [room for room in rooms if room < max_new_tokens]
        if short:
            lines.append(
                f"{len(short)} of {len(rooms)} prompts of {name} leave less than the "
                f"{max_new_tokens} tokens asked for in the model's context of {context}: their "
                f"answers are cut where it ends, the shortest after {min(short)} tokens"
            )
    for line in lines:
        _LOG.warning("%s", line)
    return tuple(lines)
