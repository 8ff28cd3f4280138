from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_models import tiny_chat
from transformers import GenerationConfig

from refusalscope.generate import greedy
from refusalscope.generate.greedy import Generated, end_of_turn_ids, generate_greedy
from refusalscope.models.chat_model import ChatModel

TEXTS = ["hello", "a much longer instruction than the others", "x", "what now?"]
N_NEW = 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("models") / "tiny", seed=1)


@pytest.fixture
def chat(model: ChatModel) -> Iterator[ChatModel]:
    own = model.model.generation_config
    model.model.generation_config = GenerationConfig(eos_token_id=4, pad_token_id=0)
    yield model
    model.model.generation_config = own


def generated(chat: ChatModel, texts: list[str], *, stop: bool = True) -> list[Generated]:
    return generate_greedy(chat, chat.encode(texts), max_new_tokens=N_NEW, stop_at_end_of_turn=stop)


def reference(chat: ChatModel, text: str) -> list[int]:
    """Greedy tokens, each from a whole forward pass without cache or padding."""
    import torch

    ids = list(chat.encode([text])[0].ids)
    n = len(ids)
    with torch.inference_mode():
        for _ in range(N_NEW):
            output = chat.model(input_ids=torch.tensor([ids]), use_cache=False)
            ids.append(int(output.logits[0, -1].argmax()))
    return ids[n:]


def test_a_batch_gives_what_one_prompt_at_a_time_gives(chat: ChatModel) -> None:
    together = generated(chat, TEXTS, stop=False)
    assert together == [generated(chat, [text], stop=False)[0] for text in TEXTS]
    assert [list(row.ids) for row in together] == [reference(chat, text) for text in TEXTS]
    assert len({row.ids for row in together}) == len(TEXTS)


def test_a_completion_stops_at_the_end_of_turn_and_says_so(chat: ChatModel) -> None:
    free = generated(chat, TEXTS, stop=False)
    stop = free[1].ids[5]
    chat.model.generation_config.eos_token_id = [4, stop]
    for row, whole in zip(generated(chat, TEXTS), free, strict=True):
        ends = [i for i, token in enumerate(whole.ids) if token in (4, stop)]
        assert row.ended == bool(ends)
        assert row.ids == whole.ids[: ends[0] if ends else N_NEW]
    assert generated(chat, TEXTS)[1].ended


def test_past_the_end_of_turn_a_completion_runs_to_the_token_limit(chat: ChatModel) -> None:
    free = generated(chat, TEXTS, stop=False)
    chat.model.generation_config.eos_token_id = [row.ids[0] for row in free]
    assert [row.ids for row in generated(chat, TEXTS)] == [()] * len(TEXTS)
    past = generated(chat, TEXTS, stop=False)
    assert past == free
    assert all(len(row.ids) == N_NEW and not row.ended for row in past)


@pytest.mark.parametrize(
    "changes",
    [
        {"repetition_penalty": 5.0},
        {"suppress_tokens": list(range(5, 150))},
        {"encoder_repetition_penalty": 5.0},
        {"no_repeat_ngram_size": 1},
        {"begin_suppress_tokens": list(range(5, 150))},
        {"bad_words_ids": [[i] for i in range(5, 150)]},
        {"forced_eos_token_id": 70},
        {"min_new_tokens": 12},
        {"guidance_scale": 3.0},
        {"prompt_lookup_num_tokens": 3},
        {"do_sample": True, "temperature": 3.0},
        {"num_beams": 3},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_models_own_generation_settings_do_not_make_it_less_greedy(
    chat: ChatModel, changes: dict
) -> None:
    free = generated(chat, TEXTS, stop=False)
    assert any(len(set(row.ids)) < N_NEW for row in free)
    own = GenerationConfig(eos_token_id=4, pad_token_id=0, **changes)
    chat.model.generation_config = own
    assert generated(chat, TEXTS, stop=False) == free
    assert chat.model.generation_config is own


def test_the_models_own_settings_are_back_after_an_exception(
    chat: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_given: object) -> None:
        raise RuntimeError("out of memory")

    own = chat.model.generation_config
    monkeypatch.setattr(chat.model, "generate", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        generated(chat, TEXTS)
    assert chat.model.generation_config is own


def test_the_token_limit_cuts_and_says_so(chat: ChatModel) -> None:
    row = generate_greedy(chat, chat.encode(["hello"]), max_new_tokens=1)[0]
    assert len(row.ids) == 1
    assert not row.ended


def test_the_text_is_that_of_the_tokens_without_control_tokens(chat: ChatModel) -> None:
    row = greedy.generated(chat, [100, 0, 101, 4, 102], frozenset({4}))
    assert row.ids == (100, 0, 101)
    assert row.text == chat.tokenizer.decode([100, 101])
    assert row.ended


def test_turns_end_at_the_tokens_of_model_tokenizer_and_template(chat: ChatModel) -> None:
    assert end_of_turn_ids(chat) == {4}
    chat.model.generation_config.eos_token_id = [7, 8]
    assert end_of_turn_ids(chat) == {4, 7, 8}
    chat.model.generation_config.eos_token_id = None
    assert end_of_turn_ids(chat) == {4}


def test_models_are_not_changed_by_generating(chat: ChatModel, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in chat.model.state_dict().items()}
    generated(chat, TEXTS)
    after = chat.model.state_dict()
    assert all(after[name].equal(value) for name, value in before.items())
    assert list(tmp_path.iterdir()) == []
