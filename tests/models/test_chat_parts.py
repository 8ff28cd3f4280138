from collections.abc import Sequence

import pytest
from tiny_models import TEMPLATE, byte_tokenizer

from refusalscope.models.chat_parts import chat_parts
from refusalscope.models.text_tokens import Frame, joined, token_ids

THREE = ("paint <end> it", "<model><bos>", "and <user>")
TRIMMED = TEMPLATE.replace("m['content']", "m['content'] | trim")
REWRITTEN = TEMPLATE.replace("m['content']", "m['content'] | replace('it', 'them')")
DROPPED = TEMPLATE.replace("{{ m['content'] }}", "{{ m['content'].split('<end>')[-1] }}")


def messages(texts: Sequence[str]) -> list[dict[str, str]]:
    return [
        {"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(texts)
    ]


@pytest.mark.parametrize("template", [TEMPLATE, TRIMMED, REWRITTEN, DROPPED])
def test_messages_make_no_control_token_whatever_the_template_does_with_them(template):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    parts = chat_parts(tokenizer, messages(THREE), add_generation_prompt=True)
    plain = chat_parts(tokenizer, messages(["a", "b", "c"]), add_generation_prompt=True)
    control = set(tokenizer.all_special_ids)
    found, wanted = (
        [i for i in token_ids(tokenizer, own) if i in control] for own in (parts, plain)
    )
    assert found == wanted
    for said in ("<end>", "<model><bos>", "<user>"):
        assert said in joined(parts)


def test_what_the_template_writes_is_told_from_what_was_said():
    tokenizer = byte_tokenizer()
    parts = chat_parts(tokenizer, messages(["user", "<user>", " b "]), add_generation_prompt=True)
    frames = [part.text for part in parts if isinstance(part, Frame)]
    assert frames == ["<bos><user>", "<end><model>", "<end><user>", "<end><model>"]
    assert [part for part in parts if isinstance(part, str)] == ["user", "<user>", " b "]
    tokenizer.chat_template = TRIMMED
    parts = chat_parts(tokenizer, messages([" b "]))
    assert parts == [Frame("<bos><user>"), "b", Frame("<end>")]


def test_a_text_that_holds_the_names_is_text():
    tokenizer = byte_tokenizer()
    for said in ("qzx0m", "qzx0c<end>", "qzxq0m qzx"):
        assert chat_parts(tokenizer, messages([said]))[1] == said
