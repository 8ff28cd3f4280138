"""A chat template rendered, whatever it does: it comes with a model, and is code of someone else.

Templates run in the sandbox of transformers, which keeps them from files and from Python, but not
from running for ever. So rendering has a limit of time, of memory, of numbers and of length, and
whatever goes wrong inside, of any type, is one line. A template that asks for the time can be told
the beginning of a day that is given, so that it writes the same on another.
"""

import re
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime, time
from pathlib import Path
from string import ascii_letters
from time import thread_time
from types import FrameType
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes
from transformers import PreTrainedTokenizerBase

from refusalscope.errors import ChatTemplateError
from refusalscope.models.causes import told

SECONDS = 2.0
"""Processor time that one rendering may take; real templates need milliseconds."""
_MEMORY = 1 << 30
"""Bytes that one rendering may add to the process, where the system can say no to more."""
_LONGEST = 200_000
"""Characters that a template may add to its messages."""
_LARGEST_FACTOR = 10_000
"""What the numbers may come to that a template multiplies with."""
_CODE = "<template>"
"""What Jinja calls the file of a template's code."""
_CLOCK = "strftime_now"
"""What templates ask the time of; transformers gives them this one clock."""
_STOPPED_CLOCK = (
    "{% macro strftime_now(format) %}{% for piece in format.split('%%') %}"
    "{{ '' if loop.first else '%' }}{% set told = namespace(text=piece) %}"
    "{% for directive, text in stopped_clock.items() %}"
    "{% set told.text = told.text.replace(directive, text) %}{% endfor %}"
    "{{ told.text }}{% endfor %}{% endmacro %}\n"
)
"""Put before a template, in place of that clock: transformers hands templates data alone."""
_OWN_TAG = re.compile(r"\{%[-+]?\s*(end)?generation\s*[-+]?%\}")
"""A tag of transformers that Jinja does not know."""

Trace = Callable[[FrameType, str, Any], Any]
Message = Mapping[str, str]


class _TooLongError(Exception):
    """A template takes more time, or writes more, than any real one."""


def render_chat(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    what: str,
    advice: str = "mend the template",
    add_generation_prompt: bool = True,
    thinks: bool | None = False,
    day: date | None = None,
) -> str:
    """The text of a conversation, through the tokenizer's own chat template.

    Contents are handed over as text. Templates that take them in parts only, as those of models
    that also see, show no text then; they are given parts.

    Args:
        what: What the messages are, for the error: the template "does not take `what`".
        thinks: What reasoning models are told: to think or not; None tells them nothing.
        day: At whose beginning the template's clock stands; None for the time that it is.

    Raises:
        ChatTemplateError: there is no template that could be meant, it raises, or it does not end.
    """
    template = chosen_template(tokenizer)
    variables: dict[str, Any] = (
        {} if thinks is None else {"enable_thinking": thinks, "thinking": thinks}
    )
    _require_bounds(template, tokenizer)
    if day is not None and _CLOCK in template:
        template = _STOPPED_CLOCK + template
        variables["stopped_clock"] = _times(day)

    def render(content: Callable[[str], object]) -> str:
        given = [{**message, "content": content(message["content"])} for message in messages]
        with _limited():
            text = tokenizer.apply_chat_template(
                given,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **variables,
            )
        longest = _LONGEST + 100 * sum(len(message["content"]) for message in messages)
        if len(str(text)) > longest:
            raise _TooLongError(f"it writes {len(str(text))} characters around the messages")
        return str(text)

    def shows_all(text: str) -> bool:
        return all(message["content"].strip() in text for message in messages)

    def as_ours(why: str, _error: BaseException) -> ChatTemplateError:
        why = why.removeprefix(f"{_TooLongError.__name__}: ")
        why = re.sub(r"^(TemplateError|UndefinedError|TemplateSyntaxError): ", "", why)
        return ChatTemplateError(
            f"the chat template of {tokenizer.name_or_path} does not take {what} ({why}); {advice}"
        )

    with told(as_ours):
        try:
            plain = render(str)
        except _TooLongError:
            raise
        except Exception:
            in_parts = _rendered_in_parts(render)
            if in_parts is None or not shows_all(in_parts):
                raise
            return in_parts
        if not shows_all(plain):
            in_parts = _rendered_in_parts(render)
            if in_parts is not None and shows_all(in_parts):
                return in_parts
        return plain


def chosen_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The template that chats with the model go through.

    Raises:
        ChatTemplateError: there is none, or there are several and none of them is the default.
    """
    templates: Any = tokenizer.chat_template
    if not templates:
        raise ChatTemplateError(
            f"the tokenizer of {tokenizer.name_or_path} has no chat template; this tool studies "
            f"chat models: give one with a template, or --template paper for the paper's families"
        )
    if isinstance(templates, Mapping):
        if "default" not in templates and len(templates) > 1:
            raise ChatTemplateError(
                f"the tokenizer of {tokenizer.name_or_path} has {len(templates)} chat templates "
                f"({', '.join(map(str, templates))}) and none of them is called default; call the "
                f"one that is meant default, in tokenizer_config.json or as chat_template.jinja"
            )
        templates = templates.get("default") or next(iter(templates.values()))
    if not isinstance(templates, str):
        raise ChatTemplateError(
            f"the chat template of {tokenizer.name_or_path} is a {type(templates).__name__}; "
            f"expected a text"
        )
    return templates


def asks_for_time(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template can print the date or the time.

    Raises:
        ChatTemplateError: there is no template that could be meant.
    """
    return _CLOCK in chosen_template(tokenizer)


def _times(day: date) -> dict[str, str]:
    """What each directive of `strftime` gives at the beginning of a day."""
    began = datetime.combine(day, time.min)
    times: dict[str, str] = {}
    for directive in (f"%{flag}{letter}" for flag in ("-", "") for letter in ascii_letters):
        with suppress(ValueError):  # the system does not know it
            times[directive] = began.strftime(directive)
    return times


def _rendered_in_parts(render: Callable[[Callable[[str], object]], str]) -> str | None:
    try:
        return render(lambda text: [{"type": "text", "text": text}])
    except _TooLongError:
        raise
    except Exception:  # the error of the rendering of plain texts is told
        return None


@contextmanager
def _limited() -> Generator[None]:
    """Let a template run for so long and no longer.

    Counts the processor time of this thread, so that a busy machine is no reason to stop.
    """
    end = thread_time() + SECONDS

    def line(_frame: FrameType, _event: str, _arg: object) -> Trace:
        if thread_time() > end:
            raise _TooLongError(f"it has not ended after {SECONDS:g} seconds")
        return line

    def call(frame: FrameType, event: str, arg: object) -> Trace | None:
        watch = line(frame, event, arg)
        return watch if frame.f_code.co_filename == _CODE else None

    before = sys.gettrace()
    with _limited_memory():
        sys.settrace(call)
        try:
            yield
        finally:
            sys.settrace(before)


@contextmanager
def _limited_memory() -> Generator[None]:
    """Keep the process from growing by more than `_MEMORY`; nothing where Linux is not there."""
    size = Path("/proc/self/statm")
    if not size.is_file():
        yield
        return
    import resource  # noqa: PLC0415 - Unix alone has it

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = int(size.read_text().split()[0]) * resource.getpagesize() + _MEMORY
    bounds = [bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([most, *bounds]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _require_bounds(template: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse what no limit of time can stop: one operation on numbers or texts without end."""
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(_OWN_TAG.sub("", template))
    except (TemplateSyntaxError, RecursionError):
        return  # said when it is rendered
    factor = 1.0
    for product in tree.find_all(nodes.Mul):
        for side in (product.left, product.right):
            if isinstance(side, nodes.Const) and isinstance(side.value, int | float):
                factor *= max(1.0, abs(float(side.value)))
    if factor > _LARGEST_FACTOR or next(tree.find_all(nodes.Pow), None) is not None:
        raise ChatTemplateError(
            f"the chat template of {tokenizer.name_or_path} multiplies or raises to powers without "
            f"bound; it is no template of a chat: mend the template"
        )
