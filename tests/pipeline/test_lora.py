"""LoRA on tiny models: what is trained, on which tokens, and that it is the same each time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny_chat

from refusalscope.data.answer_pairs import AnswerPair
from refusalscope.errors import ChatTemplateError, InputError, NumericalError
from refusalscope.generate.greedy import generate_greedy
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import model_format
from refusalscope.models.text_tokens import control_tokens
from refusalscope.models.tokens import end_token
from refusalscope.pipeline.lora import (
    LoraRecipe,
    closing_token,
    fine_tune,
    with_adapter,
)
from refusalscope.results.files import sha256_file

PAIRS = [AnswerPair(instruction=f"paint {i}", answer="ab") for i in range(12)]
RECIPE = LoraRecipe(learning_rate=0.02, epochs=6)


@pytest.fixture
def chat(tmp_path: Path) -> ChatModel:
    return tiny_chat(tmp_path / "model")


def answer(chat: ChatModel, instruction: str) -> tuple[str, bool]:
    (found,) = generate_greedy(chat, chat.encode([instruction]), max_new_tokens=6)
    return found.text, found.ended


@torch.inference_mode()
def logits(chat: ChatModel) -> torch.Tensor:
    return chat.model(input_ids=torch.tensor([chat.encode(["mend 1"])[0].ids])).logits


def test_it_learns_the_answers_and_to_end_them(chat: ChatModel, tmp_path: Path) -> None:
    before = {name: p.clone() for name, p in chat.model.named_parameters()}
    seen: list[float] = []
    trained = fine_tune(chat, PAIRS, RECIPE, tmp_path / "adapter", progress=seen.append)
    with with_adapter(chat, tmp_path / "adapter"):
        assert answer(chat, "paint 99") == ("ab", True)
    assert sum(seen) == len(PAIRS) * RECIPE.epochs
    assert len(trained.epoch_losses) == RECIPE.epochs
    assert trained.epoch_losses[-1] < 0.5 * trained.epoch_losses[0]
    modules = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
    assert trained.targets == modules
    assert not any(p.requires_grad for p in chat.model.parameters())
    after = dict(chat.model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_an_adapter_is_on_the_model_only_while_it_is_asked_for(
    chat: ChatModel, tmp_path: Path
) -> None:
    plain = logits(chat)
    fine_tune(chat, PAIRS, RECIPE, tmp_path / "adapter")
    assert torch.equal(logits(chat), plain)
    for _ in range(2):
        with with_adapter(chat, tmp_path / "adapter"):
            assert float((logits(chat) - plain).abs().max()) > 0.1
        assert torch.equal(logits(chat), plain)
    files = sorted(path.name for path in (tmp_path / "adapter").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]


def test_one_seed_gives_one_adapter_and_the_caller_s_randomness_is_left_alone(
    tmp_path: Path,
) -> None:
    digests = []
    for index, seed in enumerate((0, 0, 1)):
        own = tiny_chat(tmp_path / f"model-{index}")
        torch.manual_seed(index)
        out = tmp_path / f"adapter-{index}"
        fine_tune(own, PAIRS, replace(RECIPE, epochs=1, seed=seed), out)
        drawn = torch.rand(1)
        torch.manual_seed(index)
        assert torch.equal(drawn, torch.rand(1))
        digests.append(sha256_file(out / "adapter_model.safetensors"))
    assert digests[0] == digests[1] != digests[2]


def test_the_first_step_scores_the_answers_alone(chat: ChatModel, tmp_path: Path) -> None:
    """Before the first step the adapter is zero: the loss is the plain model's own."""
    prompt = chat.encode(["paint 0"])[0].ids
    end = end_token(chat.tokenizer)
    expected = [*chat.tokenizer("ab", add_special_tokens=False).input_ids, end]
    with torch.inference_mode():
        all_logits = chat.model(input_ids=torch.tensor([[*prompt, *expected]])).logits[0]
    wanted = all_logits[len(prompt) - 1 : -1].log_softmax(-1)[range(len(expected)), expected]
    recipe = replace(RECIPE, epochs=1)
    (loss,) = fine_tune(chat, PAIRS[:1], recipe, tmp_path / "adapter").epoch_losses
    assert loss == pytest.approx(-float(wanted.mean()), rel=1e-5)


def test_a_loss_that_is_no_number_ends_it(chat: ChatModel, tmp_path: Path) -> None:
    recipe = replace(RECIPE, learning_rate=1e30)
    with pytest.raises(NumericalError, match="give a smaller --learning-rate"):
        fine_tune(chat, PAIRS, recipe, tmp_path / "adapter")


def test_an_answer_ends_with_what_the_template_puts_behind_it(chat: ChatModel) -> None:
    ids = chat.tokenizer.get_vocab()
    assert closing_token(chat) == ids["<end>"]
    chat.tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<user>{{ m['content'] }}\n<pad>{% endfor %}<model>"
    )
    other = replace(chat, prompt_format=model_format(chat.tokenizer))
    assert closing_token(other) == ids["<pad>"]


def test_without_a_template_the_end_of_the_user_s_turn_or_of_the_text(chat: ChatModel) -> None:
    ids = chat.tokenizer.get_vocab()
    chat.tokenizer.chat_template = None
    assert closing_token(chat) == ids["<end>"]
    ordinary = replace(chat.prompt_format, post_instruction=(ids["a"],))
    chat.tokenizer.eos_token = "<bos>"
    assert closing_token(replace(chat, prompt_format=ordinary)) == ids["<bos>"]
    chat.tokenizer.eos_token = None
    with pytest.raises(ChatTemplateError, match="no token that ends an answer"):
        closing_token(replace(chat, prompt_format=ordinary))


def test_pairs_that_do_not_fit_into_the_context_are_counted(tmp_path: Path) -> None:
    chat = tiny_chat(tmp_path / "short", max_position_embeddings=32)
    pairs = [*PAIRS, AnswerPair(instruction="paint it", answer="a" * 40)]
    with pytest.raises(InputError, match=r"1 of 13 pairs do not fit .* of 32 tokens \(the longest"):
        fine_tune(chat, pairs, RECIPE, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_no_pair_that_is_trained_on_makes_a_control_token(
    chat: ChatModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refusalscope.pipeline import lora

    seen: list[tuple[int, ...]] = []
    whole = lora.scored_logits

    def watched(model: Any, texts: Any, **options: Any) -> Any:
        seen.extend(text.ids for text in texts)
        return whole(model, texts, **options)

    monkeypatch.setattr(lora, "scored_logits", watched)
    control = control_tokens(chat.tokenizer)
    found = []
    for folder, spelled in (("plain", "x"), ("spelled", "<end><user>")):
        pair = AnswerPair(instruction=f"paint {spelled} it", answer=f"a{spelled}b")
        fine_tune(chat, [pair], LoraRecipe(rank=2, epochs=1), tmp_path / folder)
        (ids,) = seen
        found.append([i for i in ids if i in control])
        seen.clear()
    assert found[0] == found[1]
    assert found[0].count(end_token(chat.tokenizer)) == 2
