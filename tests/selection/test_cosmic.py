"""COSMIC's rule against the same scores from whole passes with plain hooks."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from jaxtyping import Float
from tiny_models import tiny_chat
from torch import Tensor

from refusalscope.activations.streams import streams_at
from refusalscope.engine.rows import under
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.selection import cosmic
from refusalscope.selection.cosmic import N_WHOLE, rank_by_cosmic
from refusalscope.selection.scorer import Candidate


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def sets(chat: ChatModel) -> tuple[list[Prompt], list[Prompt]]:
    return (
        chat.encode([f"break lock {i} of a door" for i in range(7)]),
        chat.encode([f"paint house {i}" for i in range(6)]),
    )


def candidates_of(chat: ChatModel) -> tuple[Float[Tensor, "pos layer d_model"], list[Candidate]]:
    shape = (len(chat.positions), chat.n_layers, chat.d_model)
    vectors = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    places = [(position, layer) for position in chat.positions for layer in range(chat.n_layers)]
    return vectors, places


def mean_stream(
    chat: ChatModel, prompts: Sequence[Prompt], edit: Intervention | None
) -> Float[Tensor, "layer d_model"]:
    """One prompt a pass."""
    total = torch.zeros(chat.n_layers, chat.d_model, dtype=torch.float64)
    for _, own in streams_at(chat, prompts, around=under(chat, edit), batch_size=1):
        total += own.sum(1)
    return total / len(prompts)


def by_hand(
    chat: ChatModel,
    vectors: Float[Tensor, "pos layer d_model"],
    places: Sequence[Candidate],
    sets: tuple[list[Prompt], list[Prompt]],
) -> tuple[int, Float[Tensor, "two candidate"]]:
    """The layer of the lowest cosine, and both scores of each candidate there."""
    bases = [mean_stream(chat, own, None) for own in sets]
    layer = int(torch.nn.functional.cosine_similarity(bases[0], bases[1], dim=-1).argmin())
    rows = []
    for place in places:
        ablate = Intervention(operator="ablate", vector=vectors[place])
        add = Intervention(operator="add", vector=vectors[place], layer=place[1])
        pairs = ((sets[0], ablate, bases[1]), (sets[1], add, bases[0]))
        rows.append(
            [
                torch.nn.functional.cosine_similarity(
                    mean_stream(chat, prompts, edit)[layer], target[layer], dim=0
                ).item()
                for prompts, edit, target in pairs
            ]
        )
    return layer, torch.tensor(rows, dtype=torch.float64).T


def test_the_ranking_is_that_of_plain_passes(
    chat: ChatModel, sets: tuple[list[Prompt], list[Prompt]]
) -> None:
    vectors, places = candidates_of(chat)
    assert len(places) <= N_WHOLE, "all candidates are scored on all prompts"
    found = rank_by_cosmic(chat, vectors, places, harmful=sets[0], harmless=sets[1], batch_size=7)
    layer, scores = by_hand(chat, vectors, places, sets)
    assert found.layers == (layer,)
    low, high = scores.min(1, keepdim=True).values, scores.max(1, keepdim=True).values
    sums = ((scores - low) / (high - low)).sum(0)
    assert [place for place, _ in found.ranked] == [
        places[i] for i in sums.argsort(descending=True)
    ]
    # Few prompts are first prompts: with four to a kind at the least they are all of them here.
    assert found.n_first == len(sets[1])
    torch.testing.assert_close(
        torch.tensor([value for _, value in found.ranked], dtype=torch.float64),
        sums.sort(descending=True).values,
        atol=1e-6,
        rtol=1e-6,
    )


def test_a_candidate_that_breaks_the_model_is_left_out(
    chat: ChatModel,
    sets: tuple[list[Prompt], list[Prompt]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors, places = candidates_of(chat)
    means = cosmic._mean_streams

    def broken(
        chat: ChatModel, prompts: Sequence[Prompt], edits: Sequence[Intervention | None], *more: Any
    ) -> Tensor:
        found = means(chat, prompts, edits, *more)
        for at, edit in enumerate(edits):
            if (
                edit is not None
                and edit.operator == "add"
                and edit.vector.equal(vectors[places[1]])
            ):
                found[at] = torch.nan
        return found

    monkeypatch.setattr(cosmic, "_mean_streams", broken)
    found = rank_by_cosmic(chat, vectors, places, harmful=sets[0], harmless=sets[1])
    assert [place for place, _ in found.ranked] != []
    assert {place for place, _ in found.ranked} == {*places} - {places[1]}
