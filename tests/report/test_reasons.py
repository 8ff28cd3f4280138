from types import SimpleNamespace

import pytest

from refusalscope.report.reasons import reason_map, reason_of, sweeps_sentence


@pytest.mark.parametrize(
    ("rejected", "key"),
    [
        (None, "passed"),
        ("late layer", "layer"),
        ("induce", "induce"),
        ("kl", "kl"),
        ("not finite", "number"),
        ("outranked", "outranked"),
        ("KL 0.31 is above 0.1 at layer 3", "kl"),
        ("something new", "other"),
    ],
)
def test_a_rejection_belongs_to_the_category_it_names_first(rejected: str | None, key: str):
    assert reason_of(rejected).key == key


def test_the_map_has_a_cell_for_every_candidate_and_the_counts_add_up(sample: SimpleNamespace):
    found = reason_map(sample.selection(all_scores=False))
    assert found.positions == (-4, -3, -2, -1)
    assert all(len(row) == 12 and None not in row for row in found.cells)
    assert sum(count for _, count in found.counts) == 48
    assert {reason.key: count for reason, count in found.counts}["chosen"] == 1
    chosen = found.cells[2][7]
    assert chosen is not None
    assert chosen.reason.key == "chosen"


def test_a_place_without_a_candidate_is_left_empty(sample: SimpleNamespace):
    selection = sample.selection()
    fewer = selection.model_copy(update={"candidates": selection.candidates[1:]})
    assert reason_map(fewer).cells[0][0] is None


def test_the_cost_of_the_search_is_told_against_the_full_grid(sample: SimpleNamespace):
    assert sweeps_sentence(sample.selection(all_scores=False)) == (
        "17.4 of the 144 validation sweeps of the full grid were run (12 %)."
    )


def test_where_all_scores_are_there_the_cost_is_what_would_have_been_enough(
    sample: SimpleNamespace,
):
    imported = sample.selection().model_copy(update={"sweeps": 36})
    assert sweeps_sentence(imported) == (
        "36 of the 144 validation sweeps of the full grid would have been enough to find the "
        "winner (25 %)."
    )


def test_an_unknown_cost_is_not_measured(sample: SimpleNamespace):
    unknown = sample.selection().model_copy(update={"sweeps": None})
    assert "not measured" in sweeps_sentence(unknown)
