"""Several random directions in place of the direction: the same metric, each drawn apart."""

from collections.abc import Sequence
from typing import Any, get_args

import pytest
import torch
from tiny_models import tiny_chat

from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import condition_intervention
from refusalscope.metrics.control_ranges import control_ranges
from refusalscope.metrics.refusal_metric import refusal_metric
from refusalscope.models.batches import pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import last_token_logits
from refusalscope.models.prompts import Prompt
from refusalscope.results.control_records import ControlSpread
from refusalscope.results.records import Condition
from refusalscope.selection.control_spread import N_DRAWS, control_seeds, control_spread
from refusalscope.selection.score import ModelScorer
from refusalscope.selection.scorer import Part

TOKENS = (100, 101)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def prompts(chat: ChatModel) -> dict[str, list[Prompt]]:
    return {
        "harmful": chat.encode(["open door 1", "open a much longer door", "shut it"]),
        "harmless": chat.encode(["count to 7", "name a fruit"]),
    }


@pytest.fixture(scope="module")
def vector(chat: ChatModel) -> torch.Tensor:
    return 3 * torch.randn(chat.d_model, generator=torch.Generator().manual_seed(1))


def _spread(
    chat: ChatModel, prompts: dict[str, list[Prompt]], vector: torch.Tensor
) -> ControlSpread:
    return control_spread(
        chat,
        prompts,
        vector=vector,
        layer=1,
        refusal_tokens=TOKENS,
        seeds=control_seeds(7),
    )


def test_five_directions_are_drawn_from_the_runs_seed_its_own_first():
    assert N_DRAWS == 5
    seeds = control_seeds(7)
    assert seeds[0] == 7
    assert len(set(seeds)) == 5
    assert control_seeds(7) == seeds
    assert not set(control_seeds(8)) & set(seeds)


def test_every_row_is_the_metric_under_its_own_intervention(
    chat: ChatModel, prompts: dict[str, list[Prompt]], vector: torch.Tensor
):
    spread = _spread(chat, prompts, vector)
    names = [(row.dataset, row.condition) for row in spread.rows]
    assert names == [
        *[("harmful", name) for name in ("baseline", "ablation", *["random_ablation"] * 5)],
        *[("harmless", name) for name in ("baseline", "addition", *["random_addition"] * 5)],
    ]
    for row in spread.rows:
        (name,) = [name for name in get_args(Condition) if name == row.condition]
        edit = condition_intervention(name, vector=vector, layer=1, control_seed=row.seed or 0)
        metrics = []
        for prompt in prompts[row.dataset]:
            with intervene(chat.model, chat.anatomy, [edit]):
                logits = last_token_logits(
                    chat.model, pad([prompt], pad_id=chat.pad_id, device=chat.device)
                )
            metrics.append(refusal_metric(logits, TOKENS).item())
        assert row.mean == pytest.approx(sum(metrics) / len(metrics), abs=1e-4)
        assert row.refusing == sum(metric > 0 for metric in metrics) / len(metrics)
        assert row.n == len(metrics)
    assert len({row.mean for row in spread.rows}) == len(spread.rows)


def test_a_metric_that_is_not_finite_is_not_measured(
    chat: ChatModel,
    prompts: dict[str, list[Prompt]],
    vector: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
):
    score = ModelScorer.score

    def broken(self: ModelScorer, parts: Sequence[Part]) -> list[float]:
        def with_nan(*given: Any, **options: Any) -> torch.Tensor:
            logits = last_token_logits(*given, **options).clone()
            logits[:, 5] = torch.nan
            return logits

        with monkeypatch.context() as patch:
            patch.setattr("refusalscope.engine.edited_passes.last_token_logits", with_nan)
            return score(self, parts)

    monkeypatch.setattr(ModelScorer, "score", broken)
    spread = _spread(chat, prompts, vector)
    for row in spread.rows:
        assert (row.mean is None) == (row.condition != "baseline")
        assert row.refusing == 0 or row.condition == "baseline"
    assert [one.low for one in control_ranges(spread)] == [None, None]
    assert ControlSpread.from_json(spread.to_json(), source="here") == spread


def test_the_range_is_from_the_lowest_to_the_highest_direction(
    chat: ChatModel, prompts: dict[str, list[Prompt]], vector: torch.Tensor
):
    spread = _spread(chat, prompts, vector)
    harmful, harmless = control_ranges(spread)
    means = [row.mean for row in spread.rows if row.condition == "random_ablation"]
    assert (harmful.low, harmful.high) == (min(m or 0 for m in means), max(m or 0 for m in means))
    assert (harmful.dataset, harmful.control, harmful.n_draws) == ("harmful", "random_ablation", 5)
    assert harmful.baseline == spread.rows[0].mean
    assert harmful.direction == spread.rows[1].mean
    assert (harmless.dataset, harmless.n) == ("harmless", 2)
    assert control_ranges(None) == ()
