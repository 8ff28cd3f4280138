"""From an instruction to prompt tokens, through the model's own chat template.

The template is rendered once around a placeholder; an instruction takes the placeholder's place as
plain text, so nothing it says is ever read as template code; what it spells of control tokens stays
ordinary text, see `text_tokens`. The same holds for a system prompt.
"""

import hashlib
import logging
from dataclasses import dataclass, field
from datetime import date
from itertools import takewhile

from transformers import PreTrainedTokenizerBase

from refusalscope.errors import ChatTemplateError, InstructionsError
from refusalscope.models.chat_template import asks_for_time, render_chat
from refusalscope.models.families import Family, render_paper_prompt
from refusalscope.models.text_tokens import Frame, Part, read_parts
from refusalscope.results.answer_text import closes_reasoning
from refusalscope.results.records import RenderedTemplate

_LOG = logging.getLogger(__name__)
_PLACEHOLDER = "PLACEHOLDERq7"
_PROBES = ("go", "Why?", "Stop.", "count to 7", 'say "hi"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One rendered prompt.

    Attributes:
        ids: Tokens, template included.
        n_post: Number of post-instruction tokens at the end of `ids`.
        has_control_text: The instruction spelled a control token; it was tokenized as text.
    """

    ids: tuple[int, ...]
    n_post: int
    has_control_text: bool = False

    def with_suffix(self, suffix: tuple[int, ...]) -> "Prompt":
        """The prompt with tokens added at the end of its instruction."""
        cut = len(self.ids) - self.n_post
        return Prompt(
            ids=(*self.ids[:cut], *suffix, *self.ids[cut:]),
            n_post=self.n_post,
            has_control_text=self.has_control_text,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFormat:
    """How a model wants its prompts.

    Attributes:
        before: Text before the instruction.
        after: Text after the instruction, up to where the model begins to answer.
        adds_special_tokens: Whether the tokenizer adds its own (BOS); true for the paper's
            templates, which are plain strings.
        post_instruction: The tokens after the instruction, the same whatever the instruction is.
        answer_prefix: The end of `after` that begins the answer; no template writes it.
        day: What a template that asks for the time was told; None where it does not ask, or a run
            of an earlier version does not say.
    """

    tokenizer: PreTrainedTokenizerBase
    before: str
    after: str
    adds_special_tokens: bool
    post_instruction: tuple[int, ...]
    system: str | None
    answer_prefix: str = ""
    day: date | None = None
    _known: dict[str, Prompt] = field(default_factory=dict, init=False, compare=False, repr=False)

    def encode(self, instruction: str) -> Prompt:
        """Render and tokenize one instruction; what was asked before is known.

        Raises:
            InstructionsError: the instruction is empty, or the prompt does not end in the
                post-instruction tokens.
        """
        text = instruction.strip()
        if not text:
            raise InstructionsError("an instruction is empty; remove it from its file")
        if text not in self._known:
            self._known[text] = self._tokenized(text)
        return self._known[text]

    def _tokenized(self, text: str) -> Prompt:
        ids, has_control_text = read_parts(
            self.tokenizer, self.parts(text), adds_special_tokens=self.adds_special_tokens
        )
        n_post = len(self.post_instruction)
        if tuple(ids[-n_post:]) != self.post_instruction:
            raise InstructionsError(
                f"the prompt of instruction {text[:60]!r} does not end in the "
                f"{n_post} post-instruction tokens of the template; its end merges with them: "
                f"end the instruction with a full stop or remove it"
            )
        return Prompt(ids=tuple(ids), n_post=n_post, has_control_text=has_control_text)

    def parts(self, instruction: str) -> list[Part]:
        """An instruction, as it is, between what the template writes around it."""
        return [*self.before_parts, instruction, Frame(self.after)]

    @property
    def before_parts(self) -> list[Part]:
        """`before`, where the system prompt is somebody's text."""
        said = (self.system or "").strip()
        start, found, end = self.before.partition(said) if said else (self.before, "", "")
        return [Frame(start), found, Frame(end)]

    def with_answer_prefix(self, prefix: str) -> "PromptFormat":
        """The format whose prompts end with the beginning of the answer, control tokens too.

        Raises:
            ChatTemplateError: no token follows the instruction.
        """
        return _with_post_instruction(
            self.tokenizer,
            self.before,
            self.after + prefix,
            system=self.system,
            adds_special_tokens=self.adds_special_tokens,
            answer_prefix=self.answer_prefix + prefix,
            day=self.day,
        )

    def sha256(self) -> str:
        """Digest of everything that decides how an instruction becomes a prompt."""
        text = "\x00".join([self.before, self.after, str(self.adds_special_tokens)])
        return hashlib.sha256(text.encode()).hexdigest()

    def rendered(self) -> RenderedTemplate:
        """The text around an instruction, to be kept and read back by `kept_format`."""
        return RenderedTemplate(
            before=self.before,
            after=self.after,
            adds_special_tokens=self.adds_special_tokens,
            answer_prefix=self.answer_prefix,
            day=self.day,
        )


def model_format(
    tokenizer: PreTrainedTokenizerBase, *, system: str | None = None, day: date | None = None
) -> PromptFormat:
    """The format of the tokenizer's own chat template.

    Reasoning models get an empty, closed block of reasoning, so that the first token after the
    prompt is the first of the answer.

    Args:
        day: What a template that asks for the time is told; today if None.

    Raises:
        ChatTemplateError: there is no chat template, it has no system role, it changes the
            instruction, or nothing follows the instruction.
    """
    told = (day or date.today()) if asks_for_time(tokenizer) else None
    before, after = _around_placeholder(tokenizer, system, told)
    return _with_post_instruction(
        tokenizer, before, after, system=system, adds_special_tokens=False, day=told
    )


def kept_format(
    tokenizer: PreTrainedTokenizerBase, kept: RenderedTemplate, *, system: str | None = None
) -> PromptFormat:
    """The format of a template that was rendered before; it is not rendered again.

    Raises:
        ChatTemplateError: nothing follows the instruction.
    """
    if kept.day is None and not kept.adds_special_tokens and asks_for_time(tokenizer):
        _LOG.warning(
            "the chat template of %s prints the time and the run does not say which day it was "
            "told; other system prompts and longer conversations are told today's",
            tokenizer.name_or_path,
        )
    return _with_post_instruction(
        tokenizer,
        kept.before,
        kept.after,
        system=system,
        adds_special_tokens=kept.adds_special_tokens,
        answer_prefix=kept.answer_prefix,
        day=kept.day,
    )


def n_template_tokens(prompt_format: PromptFormat) -> int:
    """Tokens that stand before every instruction."""
    encoded = [prompt_format.encode(probe).ids for probe in _PROBES]
    columns = zip(*encoded, strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


def paper_format(
    tokenizer: PreTrainedTokenizerBase, family: Family, *, system: str | None = None
) -> PromptFormat:
    """The format that the paper's code used for one of its five families (its Table 6).

    The post-instruction tokens are those of the template's tail tokenized alone, as in the paper's
    code, where they end real prompts; the tail of Llama-2 is five tokens in a real prompt and six
    alone, and the real five are used (paper-facts: the sixth is the last token of the instruction).

    Raises:
        ChatTemplateError: the family's template has no system role.
    """
    rendered = render_paper_prompt(family, _PLACEHOLDER, system=system)
    before, after = rendered.split(_PLACEHOLDER)
    return _with_post_instruction(tokenizer, before, after, system=system, adds_special_tokens=True)


def _around_placeholder(
    tokenizer: PreTrainedTokenizerBase, system: str | None, day: date | None
) -> tuple[str, str]:
    rendered = [_render(tokenizer, text, system, day) for text in (_PLACEHOLDER, *_PROBES)]
    if rendered[0].count(_PLACEHOLDER) != 1:
        raise ChatTemplateError(
            f"the chat template of {tokenizer.name_or_path} shows the instruction "
            f"{rendered[0].count(_PLACEHOLDER)} times, expected once; mend the template"
        )
    before, after = rendered[0].split(_PLACEHOLDER)
    for probe, text in zip(_PROBES, rendered[1:], strict=True):
        wanted = before + probe + after
        if text != wanted:
            _require_repeatable(tokenizer, system, day)
            raise ChatTemplateError(
                f"the chat template of {tokenizer.name_or_path} changes the text of the "
                f"instruction {probe!r}; mend the template so that it is copied as it is"
            )
    if system is not None and system.strip() not in before:
        raise ChatTemplateError(
            f"the chat template of {tokenizer.name_or_path} drops the system prompt in silence; "
            f"run without --system"
        )
    return before, after + _closed_thinking(after)


def _require_repeatable(
    tokenizer: PreTrainedTokenizerBase, system: str | None, day: date | None
) -> None:
    first, second = (_render(tokenizer, _PLACEHOLDER, system, day) for _ in range(2))
    if first != second:
        raise ChatTemplateError(
            f"the chat template of {tokenizer.name_or_path} gives another text each time it is "
            f"rendered, so no two prompts would be alike; take what it draws at random out of it"
        )


def _render(
    tokenizer: PreTrainedTokenizerBase, text: str, system: str | None, day: date | None
) -> str:
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": text})
    return render_chat(
        tokenizer,
        messages,
        what="a system prompt" if system is not None else "a single user message",
        advice="run without --system"
        if system is not None
        else "mend the template, or give the system prompt that it may want with --system",
        day=day,
    )


def _closed_thinking(after: str) -> str:
    closing = closes_reasoning(after)
    if closing is None:
        return ""
    return f"\n\n{closing}\n\n" if closing.startswith("</") else closing


def answer_end(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the tokenizer's chat template puts behind the last answer of a conversation.

    Empty where there is no template, or it does not take or does not copy such a conversation.
    """
    turns = [{"role": "user", "content": "go"}, {"role": "assistant", "content": _PLACEHOLDER}]
    if not tokenizer.chat_template:
        return ""
    try:
        rendered = render_chat(
            tokenizer, turns, what="an answered message", add_generation_prompt=False, thinks=None
        )
    except ChatTemplateError:
        return ""
    return rendered.rpartition(_PLACEHOLDER)[2] if _PLACEHOLDER in rendered else ""


def _with_post_instruction(
    tokenizer: PreTrainedTokenizerBase,
    before: str,
    after: str,
    *,
    system: str | None,
    adds_special_tokens: bool,
    answer_prefix: str = "",
    day: date | None = None,
) -> PromptFormat:
    encoded = [_encode(tokenizer, before + p + after, adds_special_tokens) for p in _PROBES]
    post: list[int] = []
    for column in zip(*(reversed(ids) for ids in encoded), strict=False):
        if len(set(column)) > 1:
            break
        post.insert(0, column[0])
    if not post or not after:
        raise ChatTemplateError(
            f"the chat template of {tokenizer.name_or_path} puts no token after the instruction; "
            f"directions are read from the post-instruction tokens, so at least one is needed: "
            f"use a template with a generation prompt"
        )
    return PromptFormat(
        tokenizer=tokenizer,
        before=before,
        after=after,
        adds_special_tokens=adds_special_tokens,
        post_instruction=tuple(post),
        system=system,
        answer_prefix=answer_prefix,
        day=day,
    )


def _encode(tokenizer: PreTrainedTokenizerBase, text: str, add_special_tokens: bool) -> list[int]:
    return list(tokenizer(text, add_special_tokens=add_special_tokens).input_ids)
