"""A conversation as a prompt of a run's model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from refusalscope.errors import InputError
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.chat_parts import chat_parts
from refusalscope.models.chat_template import render_chat
from refusalscope.models.prompts import Prompt
from refusalscope.models.system_prompts import SystemPrompt
from refusalscope.models.text_tokens import Frame, read_parts
from refusalscope.models.under_system_prompt import with_system_prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one side says."""

    role: Literal["system", "user", "assistant"]
    text: str


def encode_conversation(
    chat: ChatModel, turns: Sequence[Turn], *, paper_template: bool = False
) -> Prompt:
    """Render and tokenize a conversation up to where the model answers.

    One instruction, with or without a system prompt before it, is asked as in a run. Longer
    conversations go through the model's chat template, which is told the day of the run's own
    rendering. Control tokens that a message spells stay text.

    Args:
        paper_template: Through the template of the paper's code, which knows single instructions.

    Raises:
        ChatTemplateError: the template does not take the conversation.
        InputError: it does not end with the user, or is too long for the paper's template.
        InstructionsError: it leaves no room for an answer in the model's context.
    """
    if not turns or turns[-1].role != "user":
        raise InputError("a conversation must end with a message of the user")
    roles = [turn.role for turn in turns]
    if roles == ["user"]:
        return chat.encode([turns[0].text])[0]
    if roles == ["system", "user"]:
        system = SystemPrompt(name="conversation", text=turns[0].text)
        own = with_system_prompt(chat, system, paper_template=paper_template)
        return own.encode([turns[1].text])[0]
    if paper_template:
        raise InputError(
            f"the paper's templates take one instruction, the conversation has {len(turns)} "
            f"messages; use a run with --template model"
        )
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    render = partial(
        render_chat, chat.tokenizer, what="the conversation", day=chat.prompt_format.day
    )
    parts = chat_parts(chat.tokenizer, messages, render)
    parts.append(Frame(chat.prompt_format.answer_prefix))
    ids, has_control_text = read_parts(chat.tokenizer, parts)
    n_post = len(chat.prompt_format.post_instruction)
    prompt = Prompt(ids=tuple(ids), n_post=n_post, has_control_text=has_control_text)
    chat.require_fit([prompt], [turns[-1].text])
    return prompt
