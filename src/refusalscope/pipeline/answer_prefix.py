"""What a model begins every answer with, refusals and others alike: channel tags, blanks, "Sure".

A refusal is read at the first token of the answer. Where that is the same whatever was asked, it
says nothing; so it is put into the prompt, behind the template, and the next token is read.
"""

from collections.abc import Sequence

from refusalscope.generate.greedy import generate_greedy
from refusalscope.metrics.refusal_phrases import refusal_phrase_in_answer
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.tokens import decode
from refusalscope.organisms.organism import OrganismFacts
from refusalscope.pipeline.answer_lengths import suffix_tokens
from refusalscope.pipeline.instructions import InstructionSets
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.too_long import without_too_long
from refusalscope.results.answer_text import closes_reasoning

N_ASKED = 8
"""Training prompts of each kind that are looked at."""
LONGEST = 8
"""Tokens that answers may have in common; more is no beginning, but the same answer."""
_N_TOKENS = 24


def ready_to_ask(
    chat: ChatModel,
    sets: InstructionSets,
    options: RunOptions,
    organism: OrganismFacts | None,
    *,
    is_new: bool = True,
) -> tuple[ChatModel, InstructionSets]:
    """The model with the beginning of its answers in its prompts, and what fits into its context.

    Args:
        is_new: Look for what answers begin with, where the options ask for it; a run that is
            continued has it in its template.

    Raises:
        InstructionsError: none of a set's instructions fits.
    """
    n_suffix = suffix_tokens(options, organism)
    sets = without_too_long(chat, sets, n_suffix=n_suffix)
    is_papers = organism is not None or chat.family is not None
    if not is_new or not options.looks_for_prefix(is_papers):
        return chat, sets
    chat = with_common_start(chat, sets)
    return chat, without_too_long(chat, sets, n_suffix=n_suffix)


def with_common_start(chat: ChatModel, sets: InstructionSets) -> ChatModel:
    """The model with what all of its first answers begin with in its prompts.

    The same model where they have no token in common, where all of the beginning is the same, and
    where it refuses harmless prompts too, so that a refusal is what they have in common.
    """
    asked = [
        chat.encode([one.text for one in sets[name].instructions[:N_ASKED]])
        for name in ("harmful_train", "harmless_train")
    ]
    harmful, harmless = (
        generate_greedy(chat, prompts, max_new_tokens=_N_TOKENS) for prompts in asked
    )
    if all(refusal_phrase_in_answer(one.text) is not None for one in harmless):
        return chat
    start = common_start([one.ids for one in (*harmful, *harmless)])
    if not 0 < len(start) <= LONGEST:
        return chat
    return chat.with_answer_prefix(closed(decode(chat.tokenizer, start, skip_special=False)))


def common_start(answers: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The tokens that all answers begin with; none where there is but one answer."""
    if len(answers) < 2:
        return ()
    start: list[int] = []
    for column in zip(*answers, strict=False):
        if len(set(column)) > 1:
            break
        start.append(column[0])
    return tuple(start)


def closed(start: str) -> str:
    """A beginning, with the block of reasoning that it opens left empty and closed."""
    closing = closes_reasoning(start)
    if closing is None:
        return start
    return f"{start.rstrip()}\n\n{closing}\n\n" if closing.startswith("</") else start + closing
