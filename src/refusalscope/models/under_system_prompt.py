"""A loaded model, asked under another system prompt."""

from dataclasses import replace

from refusalscope.errors import ChatTemplateError
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import model_format, paper_format
from refusalscope.models.system_prompts import SystemPrompt


def with_system_prompt(chat: ChatModel, prompt: SystemPrompt, *, paper_template: bool) -> ChatModel:
    """The same model, asked under another system prompt.

    A template that asks for the time is told the same day, and answers begin with the same text.

    Args:
        paper_template: Through the template of the paper's code; see `families`.

    Raises:
        ChatTemplateError: the template has no place for a system prompt.
    """
    try:
        if paper_template and chat.family is not None:
            form = paper_format(chat.tokenizer, chat.family, system=prompt.text)
        else:
            form = model_format(chat.tokenizer, system=prompt.text, day=chat.prompt_format.day)
    except ChatTemplateError as error:
        raise ChatTemplateError(f"system prompt {prompt.name}: {error}") from error
    prefix = chat.prompt_format.answer_prefix
    return replace(chat, prompt_format=form.with_answer_prefix(prefix) if prefix else form)
