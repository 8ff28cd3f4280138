"""A suffix as tokens: what the text adds, whether it is read back, and the four conditions."""

import pytest

from refusalscope.errors import InputError
from refusalscope.mechanism.cosines import cosines_by_layer, curve
from refusalscope.mechanism.suffix_conditions import (
    CONDITION_NAMES,
    GenerationLimits,
    condition_prompts,
    refusal_rate,
    suffix_condition,
)
from refusalscope.mechanism.suffix_tokens import (
    is_read_as,
    stable_after,
    suffix_ids,
    suffix_text,
)
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt


def test_a_suffix_is_the_tokens_that_its_text_adds(chat: ChatModel):
    ids = suffix_ids(chat, " now!", ["open it", "go"])
    assert suffix_text(chat, ids) == " now!"
    assert len(ids) == 5
    prompt = chat.encode(["open it"])[0]
    assert is_read_as(chat, "open it", prompt, ids)
    assert prompt.with_suffix(ids).ids == chat.encode(["open it now!"])[0].ids


def test_a_suffix_that_ends_in_blanks_is_not_read_as_its_tokens(chat: ChatModel):
    ids = tuple(chat.tokenizer(" now ", add_special_tokens=False).input_ids)
    assert not stable_after(chat, ["open it"])(ids)
    assert stable_after(chat, ["open it"])(ids[:-1])


def test_tokens_that_spell_a_control_token_are_not_read_as_themselves(chat: ChatModel):
    end = chat.prompt_format.post_instruction[0]
    assert not stable_after(chat, ["open it"])((end,))


def test_a_suffix_that_adds_nothing_is_refused(chat: ChatModel):
    with pytest.raises(InputError, match="begin it with a space"):
        suffix_ids(chat, "   ", ["open it"])


def test_the_four_conditions_differ_in_the_suffix_alone(prompts: list[Prompt]):
    suffix, vocabulary = (50, 51, 52), [60, 61, 62, 63]
    found = condition_prompts(prompts, prompts[:2], suffix, vocabulary=vocabulary, seed=1)
    assert tuple(found) == CONDITION_NAMES
    assert [p.prompt for p in found["harmful"]] == prompts
    assert [p.prompt for p in found["harmless"]] == prompts[:2]
    random = []
    for prompt, own, searched in zip(
        prompts, found["harmful_random_suffix"], found["harmful_adversarial_suffix"], strict=True
    ):
        cut = len(prompt.ids) - prompt.n_post
        assert searched.prompt.ids == (*prompt.ids[:cut], *suffix, *prompt.ids[cut:])
        assert own.prompt.ids[:cut] == prompt.ids[:cut]
        assert own.prompt.ids[cut + 3 :] == prompt.ids[cut:]
        assert own.n_suffix == searched.n_suffix == 3
        random.append(own.prompt.ids[cut : cut + 3])
    assert len(set(random)) > 1
    assert {token for ids in random for token in ids} <= set(vocabulary)
    assert condition_prompts(prompts, [], suffix, vocabulary=vocabulary, seed=1) == {
        **found,
        "harmless": [],
    }


def test_refusal_counts_every_prompt_and_cosines_those_that_were_kept(
    chat: ChatModel, prompts: list[Prompt], direction
):
    found = suffix_condition(
        chat,
        condition_prompts(prompts, [], (50,), vocabulary=[60], seed=1)["harmful"],
        direction,
        kept=(1, 3),
        limits=GenerationLimits(max_new_tokens=2, stop_at_end_of_turn=True),
        batch_size=2,
    )
    assert (found.refusal.n, found.refusal.rate, found.n) == (5, 0.0, 2)
    kept = curve(cosines_by_layer(chat, [prompts[1], prompts[3]], direction))
    assert found.cosine_mean == pytest.approx(kept.mean, abs=1e-6)
    assert found.cosine_sd == pytest.approx(kept.sd, abs=1e-6)


def test_refusal_is_counted_by_phrases(
    chat: ChatModel, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
):
    seen: list[str] = []

    def every_other(text: str) -> bool:
        seen.append(text)
        return len(seen) % 2 == 0

    monkeypatch.setattr(
        "refusalscope.mechanism.suffix_conditions.is_refusal_in_answer", every_other
    )
    limits = GenerationLimits(max_new_tokens=2, stop_at_end_of_turn=True)
    assert refusal_rate(chat, prompts, limits).rate == 2 / 5
