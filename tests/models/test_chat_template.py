"""Chat templates as models have them, and as nobody should have them."""

import sys
import time
from datetime import date, datetime

import pytest
from tiny_models import TEMPLATE, byte_tokenizer
from transformers import PreTrainedTokenizerBase

from refusalscope.errors import ChatTemplateError
from refusalscope.models import chat_template
from refusalscope.models.chat_template import render_chat
from refusalscope.models.prompts import model_format

HEAD = "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>"
TAIL = "<end>{% endfor %}{% if add_generation_prompt %}<model>{% endif %}"
PARTS = (
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}"
)


def with_template(template: object) -> PreTrainedTokenizerBase:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template  # pyright: ignore[reportAttributeAccessIssue] # what files hold
    return tokenizer


@pytest.mark.parametrize(
    "content",
    [
        PARTS,
        "{% if m['content'][0]['type'] == 'image' %}<image>{% endif %}{{ m.content[0].text }}",
        "{% for c in m['content'] %}{{ c.text if c.type == 'text' else raise_exception('?') }}"
        "{% endfor %}",
    ],
)
def test_a_template_that_takes_contents_in_parts_only_is_given_parts(content: str) -> None:
    form = model_format(with_template(HEAD + content + TAIL))
    assert (form.before, form.after) == ("<bos><user>", "<end><model>")
    conversation = [{"role": "user", "content": "a"}, {"role": "model", "content": "b"}]
    text = render_chat(form.tokenizer, conversation, what="it", add_generation_prompt=False)
    assert text == "<bos><user>a<end><model>b<end>"


@pytest.mark.parametrize(
    "printed",
    ["%d %b %Y", "%A, %-d. %B %y", "%H:%M:%S.%f %p %j", "100%% %%d%%%d%", "%c|%x|%X|%U %G-%V", "é"],
)
def test_a_template_is_told_the_beginning_of_a_day_that_is_given(printed: str) -> None:
    printing = (
        "{% macro told() %}{{ strftime_now('" + printed + "') }}{% endmacro %}"
        "{% if strftime_now is defined %}{% set day = strftime_now('%d') | int %}{% endif %}"
    )
    chat = HEAD + "{{ m['content'] }}" + TAIL
    template = printing + "  {{ bos_token }}{{ told() }}/{{ day }}\n" + chat
    text = render_chat(
        with_template(template),
        [{"role": "user", "content": "a"}],
        what="it",
        day=date(2031, 7, 5),
    )
    wanted = datetime(2031, 7, 5).strftime(printed)
    assert text == f"  <bos>{wanted}/5\n<bos><user>a<end><model>"


def test_the_default_of_several_templates_is_taken_and_a_single_one_is() -> None:
    plain = model_format(byte_tokenizer())
    for templates in (
        {"tool_use": "no", "default": TEMPLATE},
        {"chat": TEMPLATE},
    ):
        form = model_format(with_template(templates))
        assert (form.before, form.after) == (plain.before, plain.after)


def test_several_templates_without_a_default_are_named() -> None:
    tokenizer = with_template({"tool_use": TEMPLATE, "rag": TEMPLATE})
    with pytest.raises(ChatTemplateError, match=r"2 chat templates .tool_use, rag. and none"):
        model_format(tokenizer)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ 'a' + 7 }}", "TypeError: can only concatenate"),
        ("{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
        ("{{ 'x: ' + today }}", r"\('today' is undefined\)"),
        ("{{ messages[5]['content'] }}", "has no element 5"),
        ("{% for m in messages %}{{ m }", "unexpected '}'"),
        ("{{ messages | no_such_filter }}", "No filter named"),
        ("{{ raise_exception('First message must be of the system') }}", "First message must be"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
        ("{{ range(10 ** 9) }}", "without bound"),
        ("{{ 9 ** 9 ** 9 }}", "without bound"),
        ("{{ ('a' * 99999) * 99999 }}", "without bound"),
        (7, "is a int; expected a text"),
    ],
)
def test_an_error_of_any_type_inside_a_template_is_one_line(template: object, why: str) -> None:
    with pytest.raises(ChatTemplateError, match=why) as caught:
        model_format(with_template(template))
    assert "\n" not in str(caught.value)
    assert "the chat template of" in str(caught.value)


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ range(99999) | list | length }}{% endfor %}",
        "{% macro m() %}{% for i in range(99999) %}{{ m() }}{% endfor %}{% endmacro %}"
        "{% for i in range(99999) %}{% for j in range(99) %}{{ i }}{% endfor %}{% endfor %}",
        "{{ lipsum(n=1000000) }}",
    ],
)
def test_a_template_that_does_not_end_is_stopped(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_template, "SECONDS", 0.3)
    before, started = sys.gettrace(), time.thread_time()
    with pytest.raises(ChatTemplateError, match=r"has not ended after 0\.3 seconds"):
        model_format(with_template(template))
    assert time.thread_time() - started < 10
    assert sys.gettrace() is before


def test_a_template_that_grows_without_end_is_stopped() -> None:
    grows = (
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}"
        "{% endfor %}{{ ns.x }}"
    )
    with pytest.raises(ChatTemplateError, match=r"MemoryError|has not ended"):
        model_format(with_template(grows))


def test_a_template_that_writes_without_end_is_refused() -> None:
    writes = "{% for i in range(9999) %}" + "a" * 40 + "{% endfor %}" + TEMPLATE
    with pytest.raises(ChatTemplateError, match=r"writes 39.... characters around the messages"):
        model_format(with_template(writes))
