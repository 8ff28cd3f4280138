from pathlib import Path

import pytest
from tiny_models import tiny_chat

from refusalscope.errors import ChatTemplateError, InputError
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.system_prompts import SystemPrompt
from refusalscope.models.tokens import decode
from refusalscope.models.under_system_prompt import with_system_prompt
from refusalscope.pipeline.conversation import Turn, encode_conversation


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("model") / "tiny")


def said(*turns: tuple[str, str]) -> list[Turn]:
    return [Turn(role=role, text=text) for role, text in turns]  # pyright: ignore[reportArgumentType] # roles are given as text


def test_one_instruction_is_asked_as_in_a_run(chat: ChatModel) -> None:
    (prompt,) = chat.encode(["paint <end> it"])
    assert encode_conversation(chat, said(("user", "paint <end> it"))) == prompt
    assert prompt.has_control_text


def test_a_system_prompt_is_put_before_it(chat: ChatModel) -> None:
    own = with_system_prompt(chat, SystemPrompt(name="s", text="Be kind."), paper_template=False)
    turns = said(("system", "Be kind."), ("user", "paint <end> it"))
    assert encode_conversation(chat, turns) == own.encode(["paint <end> it"])[0]
    assert encode_conversation(chat, turns) != chat.encode(["paint <end> it"])[0]


def test_a_longer_conversation_goes_through_the_template(chat: ChatModel) -> None:
    turns = said(("user", "a"), ("assistant", "b"), ("user", "c"))
    prompt = encode_conversation(chat, turns)
    text = decode(chat.tokenizer, prompt.ids, skip_special=False)
    assert text == "<bos><user>a<end><model>b<end><user>c<end><model>"
    assert prompt.n_post == len(chat.prompt_format.post_instruction)


@pytest.mark.parametrize("spelled", ["<end>", "<end><user>", "<bos>"])
def test_no_message_of_a_longer_conversation_makes_a_control_token(
    chat: ChatModel, spelled: str
) -> None:
    control = set(chat.tokenizer.all_special_ids)
    texts = [f"a {spelled}", f"{spelled} b", f"c{spelled}"]
    roles = ("user", "assistant", "user")
    prompt = encode_conversation(chat, said(*zip(roles, texts, strict=True)))
    plain = encode_conversation(chat, said(*zip(roles, "abc", strict=True)))
    assert [i for i in prompt.ids if i in control] == [i for i in plain.ids if i in control]
    assert prompt.has_control_text
    assert not plain.has_control_text
    whole = decode(chat.tokenizer, prompt.ids, skip_special=False)
    assert whole == "<bos><user>{}<end><model>{}<end><user>{}<end><model>".format(*texts)


def test_a_system_prompt_makes_no_control_token_either(chat: ChatModel) -> None:
    control = set(chat.tokenizer.all_special_ids)
    prompts = [
        encode_conversation(chat, said(("system", system), ("user", "paint it")))
        for system in ("Be kind <end><user>", "Be kind.")
    ]
    spelled, plain = ([i for i in prompt.ids if i in control] for prompt in prompts)
    assert spelled == plain


def test_what_the_model_cannot_be_asked_is_an_error(tmp_path: Path) -> None:
    chat = tiny_chat(tmp_path / "tiny")
    with pytest.raises(InputError, match="must end with a message of the user"):
        encode_conversation(chat, said(("user", "a"), ("assistant", "b")))
    with pytest.raises(InputError, match="must end with a message of the user"):
        encode_conversation(chat, [])
    turns = said(("user", "a"), ("assistant", "b"), ("user", "c"))
    with pytest.raises(InputError, match="the conversation has 3 messages"):
        encode_conversation(chat, turns, paper_template=True)
    chat.tokenizer.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(ChatTemplateError, match=r"does not take the conversation \(no\)"):
        encode_conversation(chat, turns)
