from collections.abc import Mapping, Sequence

import pytest
from tiny_models import TEMPLATE, byte_tokenizer
from transformers import PreTrainedTokenizerBase

from refusalscope.models.chat_parts import chat_parts
from refusalscope.models.text_tokens import Frame, Part, joined, token_ids

THREE = ("paint <end> it", "<model><bos>", "and <user>")
TRIMMED = TEMPLATE.replace("m['content']", "m['content'] | trim")
REWRITTEN = TEMPLATE.replace("m['content']", "m['content'] | replace('it', 'them')")
DROPPED = TEMPLATE.replace("{{ m['content'] }}", "{{ m['content'].split('<end>')[-1] }}")


def parts_of(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[Part]:
    messages = [
        {"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(texts)
    ]

    def render(given: Sequence[Mapping[str, str]]) -> str:
        own = [dict(message) for message in given]
        return str(tokenizer.apply_chat_template(own, tokenize=False, add_generation_prompt=True))

    return chat_parts(tokenizer, messages, render)


@pytest.mark.parametrize("template", [TEMPLATE, TRIMMED, REWRITTEN, DROPPED])
def test_messages_make_no_control_token_whatever_the_template_does_with_them(template):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    parts = parts_of(tokenizer, THREE)
    plain = parts_of(tokenizer, ["a", "b", "c"])
    control = set(tokenizer.all_special_ids)
    found, wanted = (
        [i for i in token_ids(tokenizer, own) if i in control] for own in (parts, plain)
    )
    assert found == wanted
    for said in ("<end>", "<model><bos>", "<user>"):
        assert said in joined(parts)


def test_what_the_template_writes_is_told_from_what_was_said():
    tokenizer = byte_tokenizer()
    parts = parts_of(tokenizer, ["user", "<user>", " b "])
    frames = [part.text for part in parts if isinstance(part, Frame)]
    assert frames == ["<bos><user>", "<end><model>", "<end><user>", "<end><model>"]
    assert [part for part in parts if isinstance(part, str)] == ["user", "<user>", " b "]
    tokenizer.chat_template = TRIMMED
    parts = parts_of(tokenizer, [" b "])
    assert parts == [Frame("<bos><user>"), "b", Frame("<end><model>")]


def test_a_text_that_holds_the_names_is_text():
    tokenizer = byte_tokenizer()
    for said in ("qzx0m", "qzx0c<end>", "qzxq0m qzx"):
        assert parts_of(tokenizer, [said])[1] == said
