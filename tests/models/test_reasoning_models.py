"""Models that reason before they answer: their markers are kept, and their turns end at the end."""

from pathlib import Path

import pytest
from tiny_models import TEMPLATE, tiny_chat, tiny_weights
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast

from refusalscope.generate import greedy
from refusalscope.generate.greedy import end_of_turn_ids
from refusalscope.models.chat_model import ChatModel, load_chat_model
from refusalscope.models.prompts import model_format
from refusalscope.models.tokens import added_tokens

HARMONY = (
    "{% for m in messages %}<|start|>{{ m['role'] }}"
    "{% if m['role'] == 'assistant' %}<|channel|>final{% endif %}<|message|>{{ m['content'] }}"
    "{% if loop.last and m['role'] == 'assistant' %}<|return|>{% else %}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


def _chat(folder: Path, special: tuple[str, ...], template: str, *, eos: str) -> ChatModel:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*special, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token=None))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(special))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=eos,
        pad_token=special[0],
        extra_special_tokens=list(special),
    )
    tokenizer.chat_template = template
    weights = tiny_weights(vocab_size=len(vocab))
    weights.generation_config = GenerationConfig(eos_token_id=vocab[eos], pad_token_id=0)
    weights.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_chat_model(str(folder))


def test_an_answer_of_several_messages_does_not_end_at_the_first(tmp_path: Path):
    special = ("<pad>", "<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>")
    chat = _chat(tmp_path / "harmony", special, HARMONY, eos="<|return|>")
    controls = added_tokens(chat.tokenizer)
    ids = [controls["<|end|>"], controls["<|return|>"]]
    assert chat.prompt_format.post_instruction[0] == ids[0]
    assert end_of_turn_ids(chat) == {ids[1]}
    analysis = chat.tokenizer("analysis: fine").input_ids
    final = chat.tokenizer("Yes.").input_ids
    row = greedy.generated(chat, [*analysis, ids[0], *final, ids[1]], end_of_turn_ids(chat))
    assert row.text.endswith("Yes.")
    assert row.ended


def test_a_user_turn_closed_by_the_token_that_ends_answers_too_still_stops(tmp_path: Path):
    special = ("<pad>", "<user>", "<model>", "<end>")
    template = TEMPLATE.replace("{{ bos_token }}", "")
    chat = _chat(tmp_path / "plain", special, template, eos="<pad>")
    assert end_of_turn_ids(chat) == {0, 3}


def test_markers_of_reasoning_stay_in_the_text_where_other_control_tokens_go(tmp_path: Path):
    special = ("<pad>", "<user>", "<model>", "<end>", "[THINK]", "[/THINK]")
    template = TEMPLATE.replace("{{ bos_token }}", "")
    chat = _chat(tmp_path / "marked", special, template, eos="<end>")
    ids = chat.tokenizer("[THINK]I can't tell.[/THINK]<user>Yes.").input_ids
    row = greedy.generated(chat, list(ids), frozenset())
    assert row.text == "[THINK]I can't tell.[/THINK]Yes."


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("<think>", "\n\n</think>\n\n"),
        ("<seed:think>", "\n\n</seed:think>\n\n"),
        ("<reasoning>", "\n\n</reasoning>\n\n"),
        ("[THINK]", "[/THINK]"),
        ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
        ("<|channel>thought", "<channel|>"),
        (
            "<|channel|>analysis<|message|>",
            "<|end|><|start|>assistant<|channel|>final<|message|>",
        ),
        ("{% if thinking is not defined or thinking %}<think>\n{% endif %}", ""),
    ],
)
def test_a_block_that_the_template_opens_is_closed_by_its_own_marker(
    tmp_path: Path, opening: str, closing: str
):
    chat = tiny_chat(tmp_path / "open")
    chat.tokenizer.chat_template = TEMPLATE + opening
    own = "" if "{%" in opening else opening
    assert model_format(chat.tokenizer).after.endswith(f"<model>{own}{closing}")


@pytest.mark.parametrize("broken", ["{{ raise_exception('no answers') }}", "{{ 1 + 'a' }}"])
def test_a_template_that_takes_no_answers_still_stops_where_user_turns_close(
    tmp_path: Path, broken: str
):
    special = ("<pad>", "<user>", "<model>", "<end>")
    template = "{% if messages | length > 1 %}" + broken + "{% endif %}"
    template += TEMPLATE.replace("{{ bos_token }}", "")
    chat = _chat(tmp_path / "plain", special, template, eos="<pad>")
    assert end_of_turn_ids(chat) == {0, 3}
