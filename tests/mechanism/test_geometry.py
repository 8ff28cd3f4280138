"""Cosines of candidates and principal components, on planted answers."""

import pytest
import torch

from refusalscope.mechanism.geometry import (
    category_differences,
    cosine_table,
    layer_components,
    states_at,
)
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt


def test_cosines_by_hand_and_none_where_a_candidate_is_zero():
    rows = torch.tensor([[1.0, 0.0], [0.0, 0.0], [3.0, 3.0]])
    columns = torch.tensor([[2.0, 0.0], [-1.0, -1.0]])
    assert cosine_table(rows, columns) == (
        (pytest.approx(1.0), pytest.approx(-(0.5**0.5))),
        (None, None),
        (pytest.approx(0.5**0.5), pytest.approx(-1.0)),
    )
    assert cosine_table(torch.zeros(0, 2), columns) == ()


def test_categories_need_prompts_and_each_has_its_own_difference():
    harmful = torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 5.0], [0.0, 1.0]])
    harmless = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    sizes, found = category_differences(
        harmful, harmless, ["trap", "trap", "scam", None], min_prompts=2
    )
    assert sizes == {"trap": 2}
    assert found.tolist() == [[2.0, -1.0]]
    sizes, found = category_differences(harmful, harmless, ["a", "b", "c", "d"], min_prompts=2)
    assert (sizes, tuple(found.shape)) == ({}, (0, 2))


def test_a_planted_direction_holds_the_variance_that_was_planted():
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(20, generator=generator)
    unit = direction / direction.norm()
    noise = 0.01 * torch.randn(200, 20, generator=generator)
    harmful, harmless = noise[:100] + 3 * unit, noise[100:] - 3 * unit
    found = layer_components(4, harmful, harmless, direction)
    assert found.along_direction > 0.99
    assert found.explained[0] > 0.99
    assert found.explained == tuple(sorted(found.explained, reverse=True))
    assert all(x > 2.9 for x, _ in found.harmful)
    assert all(x < -2.9 for x, _ in found.harmless)
    across = layer_components(4, harmful, harmless, torch.linalg.svd(unit[None])[2][1])
    assert across.along_direction < 0.01


def test_without_variance_there_are_no_components():
    noise = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    same = 0.1 + 1e-13 * noise
    found = layer_components(0, same, same, torch.ones(8))
    assert (found.explained, found.along_direction) == ((), 0.0)
    assert found.harmful == ((0.0, 0.0),) * 3


def test_states_are_in_the_order_of_the_prompts(chat: ChatModel, prompts: list[Prompt]):
    together = states_at(chat, prompts, -1, batch_size=2)
    assert together.shape == (2, 5, 32)
    alone = torch.cat([states_at(chat, [p], -1) for p in prompts], dim=1)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
