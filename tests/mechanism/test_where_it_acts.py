"""Parts of an intervention: each does what the whole does where it is the whole."""

from dataclasses import replace

import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import Cache, PreTrainedModel

from refusalscope.activations.next_token import refusal_metrics
from refusalscope.activations.streams import streams_at
from refusalscope.directions.direction import unit_direction
from refusalscope.engine import beginnings, rows
from refusalscope.engine.rows import Around, under
from refusalscope.interventions.intervention import Intervention
from refusalscope.mechanism.cosines import cosines_by_layer
from refusalscope.mechanism.where_it_acts import (
    at_layer,
    at_site,
    at_tokens,
    from_layer,
    n_sweeps,
    where_it_acts,
)
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import prefix_cache
from refusalscope.models.prompts import Prompt

Direction = Float[Tensor, " d_model"]


def metrics(chat: ChatModel, prompts: list[Prompt], around: Around) -> Tensor:
    return refusal_metrics(chat, prompts, (40,), around=around, batch_size=2)


def whole(chat: ChatModel, direction: Direction) -> Around:
    return under(chat, Intervention(operator="ablate", vector=direction))


def test_from_layer_nought_on_is_the_whole_ablation(
    chat: ChatModel, prompts: list[Prompt], direction: Direction
):
    unit = unit_direction(direction)
    expected = metrics(chat, prompts, whole(chat, direction))
    assert torch.equal(metrics(chat, prompts, from_layer(chat, unit, 0)), expected)
    assert not torch.equal(metrics(chat, prompts, at_layer(chat, unit, 0)), expected)


def test_at_all_tokens_is_the_whole_ablation_and_at_none_is_nothing(
    chat: ChatModel, prompts: list[Prompt], direction: Direction
):
    unit = unit_direction(direction)

    def at(value: bool) -> Around:
        return at_tokens(
            chat, unit, lambda batch: torch.full_like(batch.input_ids, value, dtype=torch.bool)
        )

    assert torch.equal(
        metrics(chat, prompts, at(True)), metrics(chat, prompts, whole(chat, direction))
    )
    plain = under(chat, None)
    assert torch.equal(metrics(chat, prompts, at(False)), metrics(chat, prompts, plain))


def test_one_position_is_counted_from_the_end_of_each_prompt(
    chat: ChatModel, prompts: list[Prompt], direction: Direction
):
    unit = unit_direction(direction)
    around = at_tokens(
        chat,
        unit,
        lambda batch: torch.arange(batch.input_ids.shape[1]) == (batch.last - 1)[:, None],
    )
    for position, is_clean in ((-2, True), (-1, False)):
        for _, streams in streams_at(chat, prompts, position=position, around=around):
            assert bool(((streams @ unit.double()).abs() < 1e-5).all()) == is_clean


def test_a_part_is_the_same_whether_the_template_is_shared_or_not(
    chat: ChatModel, direction: Direction, monkeypatch: pytest.MonkeyPatch
):
    """Tokens counted from the end of a prompt are none of those that all prompts begin with."""
    form = chat.prompt_format
    chat = replace(chat, prompt_format=replace(form, before="You are kind." + form.before))
    prompts = chat.encode(["open the door", "paint it", "count to seven now."])
    shared: list[int] = []

    def prefix(model: PreTrainedModel, ids: Tensor) -> Cache:
        shared.append(ids.shape[1])
        return prefix_cache(model, ids)

    def found() -> list[float]:
        part = where_it_acts(
            chat,
            direction,
            harmful=prompts,
            harmless=prompts[:2],
            refusal_tokens=(40,),
            coefficients=(1.0,),
            batch_size=2,
        )
        return [*part.one_position.values(), part.instruction, part.everywhere]

    monkeypatch.setattr(beginnings, "prefix_cache", prefix)
    values = found()
    assert shared
    monkeypatch.setattr(rows, "may_share", lambda _model: False)
    n_runs = len(shared)
    assert values == pytest.approx(found(), abs=1e-5)
    assert len(shared) == n_runs


def test_at_one_layer_only_its_input_is_clean(
    chat: ChatModel, prompts: list[Prompt], direction: Direction
):
    around = at_layer(chat, unit_direction(direction), 1)
    cosines = cosines_by_layer(chat, prompts, direction, around=around)
    assert cosines[:, 1].abs().max() < 1e-5
    assert cosines[:, 0].abs().min() > 1e-4


def test_the_record_holds_every_part(chat: ChatModel, prompts: list[Prompt], direction: Direction):
    told: list[float] = []
    found = where_it_acts(
        chat,
        direction,
        harmful=prompts,
        harmless=prompts[:2],
        refusal_tokens=(40,),
        coefficients=(1.0, 2.0),
        progress=told.append,
    )
    assert len(told) == n_sweeps(chat, coefficients=(1.0, 2.0))
    assert set(found.sites) == {"attn_out", "mlp_out"}
    assert set(found.one_position) == {-2, -1}
    assert found.from_layer[0] == pytest.approx(found.everywhere)
    for site, value in found.sites.items():
        around = at_site(chat, unit_direction(direction), site)
        assert value == pytest.approx(metrics(chat, prompts, around).mean().item())
    last = at_tokens(
        chat,
        unit_direction(direction),
        lambda batch: torch.arange(batch.input_ids.shape[1]) == batch.last[:, None],
    )
    assert found.one_position[-1] == pytest.approx(metrics(chat, prompts, last).mean().item())
    before = at_tokens(
        chat,
        unit_direction(direction),
        lambda batch: torch.arange(batch.input_ids.shape[1]) < batch.last[:, None] - 1,
    )
    assert found.instruction == pytest.approx(metrics(chat, prompts, before).mean().item())
    added = under(chat, Intervention(operator="add", vector=2.0 * direction, layer=1))
    assert found.addition.harmless[1][1] == pytest.approx(
        metrics(chat, prompts[:2], added).mean().item()
    )
    less = under(chat, Intervention(operator="add", vector=-direction, layer=0))
    assert found.addition.harmful[0][0] == pytest.approx(metrics(chat, prompts, less).mean().item())
