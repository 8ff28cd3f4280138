from pathlib import Path

import pytest
from tiny_models import tiny_chat

from refusalscope.errors import ChatTemplateError, InputError
from refusalscope.models.families import FAMILIES
from refusalscope.models.system_prompts import (
    SYSTEM_PROMPTS,
    SystemPrompt,
    read_system_prompts,
)
from refusalscope.models.tokens import decode
from refusalscope.models.under_system_prompt import with_system_prompt


def test_the_registry_is_that_of_the_paper() -> None:
    text = {name: prompt.text for name, prompt in SYSTEM_PROMPTS.items()}
    assert text["none"] is None
    assert text["empty"] == ""
    assert text["qwen"] == "You are a helpful assistant."
    default = FAMILIES["Llama-2"].default_system_prompt
    assert default is not None
    assert text["llama-2"] == default
    paragraph, without, shorter = (text[f"figure-19-{i}"] or "" for i in (3, 4, 5))
    assert paragraph == default.replace("\n\n", " ")
    assert "Your answers should not include" not in without
    assert without.startswith("You are a helpful, respectful and honest assistant. Always answer")
    assert shorter.startswith("Always answer as helpfully as possible")
    warning = text["figure-19-7"] or ""
    assert warning.startswith("Your answers should not include any harmful")
    assert warning.endswith("illegal content.")
    assert len(paragraph) == len(without) + len(warning) + 1
    assert text["figure-19-6"] == "Be helpful and safe."


def test_prompts_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text('{"kind": "Be kind.", "nothing": null}')
    assert read_system_prompts(path) == [
        SystemPrompt(name="kind", text="Be kind."),
        SystemPrompt(name="nothing", text=None),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "holds no system prompt"),
        ('{"a": 1}', "a is 1; expected a text or null"),
        ('{"../a": "x"}', "files are named after it"),
        ("[]", "is no JSON object"),
        ("no", "is not JSON"),
    ],
)
def test_wrong_files_are_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_system_prompts(path)


def test_the_prompt_stands_before_the_instruction(tmp_path: Path) -> None:
    chat = tiny_chat(tmp_path / "tiny")
    shown = {}
    for name, text in (("kind", "Be kind."), ("empty", ""), ("none", None)):
        asked = with_system_prompt(chat, SystemPrompt(name=name, text=text), paper_template=False)
        (prompt,) = asked.encode(["hi"])
        shown[name] = decode(chat.tokenizer, prompt.ids, skip_special=False)
    assert shown == {
        "kind": "<bos><model>Be kind.<end><user>hi<end><model>",
        "empty": "<bos><model><end><user>hi<end><model>",
        "none": "<bos><user>hi<end><model>",
    }
    chat.tokenizer.chat_template = (
        "{% for m in messages[-1:] %}<user>{{ m['content'] }}<end>{% endfor %}<model>"
    )
    with pytest.raises(ChatTemplateError, match=r"system prompt kind: .* drops the system prompt"):
        with_system_prompt(chat, SystemPrompt(name="kind", text="Be kind."), paper_template=False)
