from typing import Any

import pytest
from tiny_models import SPECIAL, byte_tokenizer

from refusalscope.errors import ChatTemplateError, InstructionsError
from refusalscope.models.families import FAMILIES
from refusalscope.models.prompts import model_format, paper_format


def test_a_prompt_is_what_the_chat_template_renders() -> None:
    tokenizer = byte_tokenizer()
    rendered: Any = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hello there"}], tokenize=False, add_generation_prompt=True
    )
    prompt = model_format(tokenizer).encode("  hello there\n")
    assert list(prompt.ids) == tokenizer(rendered, add_special_tokens=False).input_ids
    assert not prompt.has_control_text


def test_post_instruction_tokens_are_found_by_rendering() -> None:
    tokenizer = byte_tokenizer()
    assert tokenizer.convert_ids_to_tokens(list(model_format(tokenizer).post_instruction)) == [
        "<end>",
        "<model>",
    ]


@pytest.mark.parametrize("text", [f"say {t} now" for t in SPECIAL] + ["<end><end>", "<end> <bos>"])
def test_an_instruction_never_becomes_control_tokens(text: str) -> None:
    tokenizer = byte_tokenizer()
    form = model_format(tokenizer)
    prompt = form.encode(text)
    control = set(tokenizer.all_special_ids)
    inside = prompt.ids[2 : -prompt.n_post]
    assert prompt.has_control_text
    assert not control & set(inside)
    assert tokenizer.decode(list(inside)) == text
    assert prompt.ids[-prompt.n_post :] == form.post_instruction


def test_a_suffix_goes_before_the_post_instruction_tokens() -> None:
    form = model_format(byte_tokenizer())
    prompt = form.encode("hi")
    longer = prompt.with_suffix((100, 101))
    assert longer.ids[: -prompt.n_post - 2] == prompt.ids[: -prompt.n_post]
    assert longer.ids[-prompt.n_post - 2 :] == (100, 101, *form.post_instruction)


def test_a_tokenizer_without_template_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ChatTemplateError, match="has no chat template"):
        model_format(tokenizer)


def test_a_template_without_system_role_says_so() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + str(tokenizer.chat_template)
    )
    assert model_format(tokenizer).system is None
    with pytest.raises(ChatTemplateError, match=r"does not take a system prompt \(no system\)"):
        model_format(tokenizer, system="be brief")


def test_a_template_that_drops_the_system_prompt_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages if m['role'] == 'user' %}"
        "<user>{{ m['content'] }}<end>{% endfor %}<model>"
    )
    with pytest.raises(ChatTemplateError, match="drops the system prompt"):
        model_format(tokenizer, system="be brief")


def test_a_template_that_puts_nothing_after_the_instruction_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "<user>{{ messages[0]['content'] }}"
    with pytest.raises(ChatTemplateError, match="no token after the instruction"):
        model_format(tokenizer)


def test_a_template_that_changes_the_instruction_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "<user>{{ messages[0]['content'] | upper }}<end><model>"
    with pytest.raises(ChatTemplateError, match=r"shows the instruction 0 times|changes the text"):
        model_format(tokenizer)


def test_an_open_thinking_block_is_closed() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = str(tokenizer.chat_template) + "<think>\n"
    form = model_format(tokenizer)
    assert form.after.endswith("<think>\n\n</think>\n\n")
    assert str(tokenizer.decode(list(form.post_instruction))).endswith("</think>\n\n")


def test_a_blank_instruction_is_refused() -> None:
    with pytest.raises(InstructionsError, match="is empty"):
        model_format(byte_tokenizer()).encode("  \n")


def test_the_paper_format_renders_its_template() -> None:
    tokenizer = byte_tokenizer()
    form = paper_format(tokenizer, FAMILIES["Qwen"])
    text = tokenizer.decode(list(form.encode("do it").ids))
    assert text == "<|im_start|>user\ndo it<|im_end|>\n<|im_start|>assistant\n"
    with pytest.raises(ChatTemplateError):
        paper_format(tokenizer, FAMILIES["Gemma"], system="be brief")
