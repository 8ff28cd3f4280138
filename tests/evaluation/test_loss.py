import math
import random

import pytest
import torch
from tiny_models import tiny_chat

from refusalscope.errors import InputError
from refusalscope.evaluation import loss as loss_module
from refusalscope.evaluation.loss import answered, text_loss
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.scored_text import ScoredText
from refusalscope.models.text_tokens import token_ids
from refusalscope.results.records import Completion, Condition


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def texts() -> list[ScoredText]:
    rng = random.Random(0)
    return [
        ScoredText(ids=tuple(rng.choices(range(5, 261), k=n)), first=rng.randrange(n))
        for n in rng.choices(range(1, 40), k=70)
    ]


def interventions(chat: ChatModel) -> dict[Condition, Intervention | None]:
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(chat.d_model, generator=generator)
    return {
        "baseline": None,
        "ablation": Intervention(operator="ablate", vector=vector),
        "subtraction": Intervention(operator="add", vector=-vector, layer=1),
    }


def losses(chat: ChatModel, texts, **options) -> dict[str, float]:
    rows = text_loss(chat, texts, dataset="d", interventions=interventions(chat), **options)
    assert {(row.n_tokens, row.n_texts) for row in rows} == {
        (sum(t.n_scored for t in texts), len(texts))
    }
    return {row.condition: row.loss for row in rows}


def one_by_one(chat: ChatModel, texts: list[ScoredText]) -> float:
    """The paper's way: left-padded batches of two with an attention mask, in the order given."""
    total, n = 0.0, 0
    for i in range(0, len(texts), 2):
        pair = texts[i : i + 2]
        width = max(len(t.ids) for t in pair)
        pads = [width - len(t.ids) for t in pair]
        ids = torch.tensor([[0] * pad + list(t.ids) for pad, t in zip(pads, pair, strict=True)])
        attention = torch.tensor([[0] * p + [1] * (width - p) for p in pads])
        mask = attention.clone()
        mask[:, -1] = 0
        for row, (pad, text) in enumerate(zip(pads, pair, strict=True)):
            mask[row, : pad + text.first] = 0
        with torch.inference_mode():
            logits = chat.model(input_ids=ids, attention_mask=attention).logits
        own = logits[:, :-1].double().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        total -= float((own * mask[:, :-1]).sum())
        n += int(mask.sum())
    return total / n


def test_batch_size_and_sorting_change_nothing(chat, texts, monkeypatch) -> None:
    whole = losses(chat, texts, batch_size=70)
    shuffled = random.Random(1).sample(texts, len(texts))
    for order, batch_size, n_sorted in (
        (texts, 1, 1),
        (texts, 32, 32),
        (shuffled, 2, 32),
        (shuffled, 7, 1),
    ):
        monkeypatch.setattr(loss_module, "_BATCHES_SORTED_TOGETHER", n_sorted)
        again = losses(chat, order, batch_size=batch_size)
        assert again == pytest.approx(whole, abs=1e-6)
    assert len({round(value, 3) for value in whole.values()}) == 3


def test_it_is_what_the_papers_batches_give(chat, texts) -> None:
    assert losses(chat, texts)["baseline"] == pytest.approx(one_by_one(chat, texts), abs=1e-6)


def test_a_uniform_model_costs_the_logarithm_of_its_vocabulary(chat, texts, monkeypatch) -> None:
    class Uniform:
        def __init__(self, ids: torch.Tensor) -> None:
            self.logits = torch.zeros(*ids.shape, 261)

    monkeypatch.setattr(chat.model, "forward", lambda input_ids, **_: Uniform(input_ids))
    rows = text_loss(chat, texts, dataset="d", interventions={"baseline": None})
    assert rows[0].loss == pytest.approx(math.log(261), rel=1e-12)


def test_texts_are_taken_as_they_come(chat, texts, monkeypatch) -> None:
    monkeypatch.setattr(loss_module, "_BATCHES_SORTED_TOGETHER", 2)
    taken, most = [], []

    def stream():
        for text in texts:
            taken.append(text)
            yield text

    def done(n: int) -> None:
        most.append(len(taken) - sum(most_done) - n)
        most_done.append(n)

    most_done: list[int] = []
    text_loss(
        chat,
        stream(),
        dataset="d",
        interventions={"baseline": None},
        batch_size=4,
        progress=done,
    )
    assert sum(most_done) == len(texts)
    assert max(most) <= 4  # of a group of eight, four are left after its first batch


def test_nothing_to_score_is_an_error(chat) -> None:
    for texts in ([], [ScoredText(ids=(5,), first=0)], [ScoredText(ids=(), first=0)]):
        with pytest.raises(InputError, match="'d' has no token to score"):
            text_loss(chat, texts, dataset="d", interventions={"baseline": None})


def test_empty_answers_are_left_out(chat) -> None:
    prompts = chat.encode(["hi", "ho"])
    (one,) = answered(chat, prompts, [answer(""), answer("yes")])
    assert one.ids[: one.first + 1] == prompts[1].ids
    assert one.n_scored == 3


def test_the_tokens_that_the_model_wrote_count_and_not_those_of_the_text(chat) -> None:
    prompts = chat.encode(["hi", "ho"])
    known, unknown = answered(chat, prompts, [answer("yes", token_ids=(7, 8)), answer("yes")])
    assert known.ids[known.first + 1 :] == (7, 8)
    assert unknown.ids[unknown.first + 1 :] == tuple(token_ids(chat.tokenizer, ["yes"]))


def answer(text: str, *, token_ids: tuple[int, ...] | None = None) -> Completion:
    return Completion(
        index=0,
        dataset="harmless",
        condition="baseline",
        instruction="hi",
        category=None,
        completion=text,
        n_tokens=None,
        ended=None,
        token_ids=token_ids,
    )


def test_every_scored_position_counts_once(chat: ChatModel) -> None:
    text = ScoredText(ids=(5, 6, 7, 8), first=1)
    with torch.inference_mode():
        body = chat.model.get_submodule("model")
        hidden = body(input_ids=torch.tensor([text.ids])).last_hidden_state[0]
        # The two rows that count and no others: how a product rounds may depend on its rows.
        log_p = chat.model.get_submodule("lm_head")(hidden[1:3]).double().log_softmax(-1)
    by_hand = -(log_p[0, 7] + log_p[1, 8]).item() / 2
    (row,) = text_loss(chat, [text], dataset="d", interventions={"baseline": None})
    assert (row.n_tokens, row.loss) == (2, pytest.approx(by_hand, abs=1e-9))
