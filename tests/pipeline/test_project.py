"""Which layers and answers the projections keep."""

import pytest

from refusalscope.pipeline import project
from refusalscope.results.records import Completion


def test_layers_of_deep_models_are_thinned_and_the_directions_own_is_kept():
    assert project.kept_layers(12, own=5) == tuple(range(12))
    layers = project.kept_layers(80, own=37)
    assert len(layers) <= project.MAX_LAYERS + 1
    assert 37 in layers
    assert layers == tuple(sorted(set(layers)))


def test_the_first_answers_of_every_data_set_are_kept_until_the_budget_is_spent(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(project, "TOKEN_BUDGET", 10)
    rows = [
        Completion(
            index=index,
            dataset=dataset,
            condition="baseline",
            instruction="",
            category=None,
            completion="abc",
            n_tokens=3,
            ended=True,
        )
        for dataset in ("harmful", "harmless")
        for index in range(4)
    ]
    tokens = [([1, 2, 3], [1, 1, 1])] * len(rows)
    kept = project._chosen(rows, tokens, n_layers=2)
    assert [(row.dataset, row.index) for row, _, _ in kept] == [
        ("harmful", 0),
        ("harmless", 0),
        ("harmful", 1),
    ]
