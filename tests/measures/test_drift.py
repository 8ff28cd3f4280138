import random

import pytest
import torch
from tiny_models import tiny_chat

from refusalscope.evaluation.answer_drift import TextDrift, drift
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.measures.drift.measure import condition_drift
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.scored_text import ScoredText


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def texts() -> list[ScoredText]:
    rng = random.Random(0)
    return [
        ScoredText(ids=tuple(rng.choices(range(5, 261), k=n)), first=rng.randrange(n - 1))
        for n in rng.choices(range(2, 30), k=20)
    ]


def ablation(chat: ChatModel) -> Intervention:
    vector = torch.randn(chat.d_model, generator=torch.Generator().manual_seed(0))
    return Intervention(operator="ablate", vector=vector)


def by_hand(chat: ChatModel, text: ScoredText, token: int) -> float:
    """KL at one token, from two passes over what comes before it and nothing else."""
    ids = torch.tensor([text.ids[: text.first + token]])
    with torch.inference_mode():
        base = chat.model(input_ids=ids).logits[0, -1].double().log_softmax(-1)
        with intervene(chat.model, chat.anatomy, [ablation(chat)]):
            edited = chat.model(input_ids=ids).logits[0, -1].double().log_softmax(-1)
    return float((base.exp() * (base - edited)).sum())


def test_every_token_is_that_of_its_prefix_alone(chat, texts) -> None:
    found = drift(chat, texts, interventions={"ablation": ablation(chat)}, batch_size=7)["ablation"]
    for text, own in zip(texts, found, strict=True):
        assert len(own.by_token) == text.n_scored
        for token in {1, text.n_scored}:
            assert float(own.by_token[token - 1]) == pytest.approx(
                by_hand(chat, text, token), abs=1e-6
            )
        assert own.paper_first == pytest.approx(float(own.by_token[0]), rel=0.05)
    assert max(float(own.by_token.max()) for own in found) > 0.01


def test_nothing_drifts_where_nothing_is_done(chat, texts) -> None:
    nothing = Intervention(operator="add", vector=torch.zeros(chat.d_model), layer=0)
    found = drift(chat, texts, interventions={"addition": nothing})["addition"]
    assert all(own.by_token.eq(0).all() for own in found)


def test_means_by_token_known_by_hand() -> None:
    texts = [
        TextDrift(by_token=torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64), paper_first=0.5),
        TextDrift(by_token=torch.tensor([3.0, 4.0], dtype=torch.float64), paper_first=1.5),
    ]
    row = condition_drift("harmless", "ablation", texts, n_empty=1)
    assert (row.n_texts, row.n_empty, row.n_tokens) == (2, 1, 5)
    assert row.mean == pytest.approx(16 / 5)
    assert (row.first_token, row.paper_first_token) == (2.0, 1.0)
    assert [(t.token, t.mean, t.n) for t in row.by_token] == [(1, 2.0, 2), (2, 3.0, 2), (3, 6.0, 1)]
    assert row.by_token[0].sd == pytest.approx(2**0.5)
    assert row.by_token[2].sd is None
