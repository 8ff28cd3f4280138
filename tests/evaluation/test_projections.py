"""Projections of answers: against the mechanism's own pass, and under interventions."""

import pytest
import torch
from tiny_models import save_tiny

from refusalscope.evaluation.projections import WrittenAnswer, answer_projections, token_lengths
from refusalscope.interventions.intervention import Intervention
from refusalscope.mechanism.token_projections import token_projections
from refusalscope.models.chat_model import ChatModel, load_chat_model
from refusalscope.results.projection_records import AnswerProjection, packed


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return load_chat_model(str(save_tiny(tmp_path_factory.mktemp("tiny") / "tiny")))


def _direction(chat: ChatModel) -> torch.Tensor:
    return torch.randn(chat.d_model, generator=torch.Generator().manual_seed(1))


def test_answer_tokens_are_those_of_a_pass_over_the_whole_text(chat: ChatModel):
    prompts = chat.encode(["open the door", "paint the long wall of the house"])
    tokens = ((5, 9, 11), (7, 8))
    answers = [
        WrittenAnswer(prompt=prompt, tokens=own, intervention=None)
        for prompt, own in zip(prompts, tokens, strict=True)
    ]
    found = answer_projections(chat, answers, _direction(chat), layers=[0, chat.n_layers - 1])
    for answer, values in zip(answers, found, strict=True):
        whole = token_projections(chat, answer.whole, _direction(chat))
        n = len(answer.tokens)
        assert values.shape == (2, n)
        torch.testing.assert_close(values, whole[-n:, [0, -1]].T, atol=1e-5, rtol=1e-5)


def test_ablation_leaves_nothing_and_addition_adds_its_length(chat: ChatModel):
    direction = _direction(chat)
    (prompt,) = chat.encode(["open the door"])
    conditions = (
        None,
        Intervention(operator="ablate", vector=direction),
        Intervention(operator="add", vector=direction, layer=0),
    )
    answers = [WrittenAnswer(prompt=prompt, tokens=(5, 9), intervention=one) for one in conditions]
    base, ablated, added = answer_projections(
        chat, answers, direction, layers=list(range(chat.n_layers))
    )
    assert ablated.abs().max() < 1e-5
    torch.testing.assert_close(
        added[0] - base[0], direction.norm().double().expand(2), atol=1e-4, rtol=1e-4
    )


def test_token_lengths_add_up_to_the_text(chat: ChatModel):
    for text in ("open the door", " two  spaces ", "na\u00efve \U0001f600 end\n\n"):
        ids, lengths = token_lengths(chat.tokenizer, text)
        assert len(ids) == len(lengths)
        assert sum(lengths) == len(text)
        assert min(lengths) >= 0


def test_lengths_of_written_tokens_add_up_whatever_the_text_by_itself_would_have(chat: ChatModel):
    for text in (" two  spaces ", "na\u00efve \U0001f600 end\n\n"):
        ids, lengths = token_lengths(chat.tokenizer, text)
        assert token_lengths(chat.tokenizer, text, ids) == (ids, lengths)
        # What was written has space around it that the text has not, and a character in two.
        written, own = token_lengths(chat.tokenizer, text.strip(), ids)
        assert written == ids
        assert sum(own) == len(text.strip())
        assert min(own) >= 0


def test_each_written_token_ends_where_its_own_text_does(chat: ChatModel):
    apart = [*chat.tokenizer("op").input_ids, *chat.tokenizer("en").input_ids]
    _, lengths = token_lengths(chat.tokenizer, "open", apart)
    assert sum(lengths[: len(chat.tokenizer("op").input_ids)]) == len("op")


def test_packed_values_come_back_with_their_signs():
    rows = [[-127, 0, 127], [1, -1, 5]]
    record = AnswerProjection(
        dataset="harmful", condition="baseline", index=0, lengths=(1, 2, 3), values=packed(rows)
    )
    assert record.rows() == rows
