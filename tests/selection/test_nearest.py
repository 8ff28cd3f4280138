from collections.abc import Sequence

import pytest

from refusalscope.results.records import CandidateScores, SelectionLimits
from refusalscope.selection.nearest import Spread, find_nearest, violation
from refusalscope.selection.scorer import Candidate, Part, ScoreName
from refusalscope.selection.select import LATE, NOT_FINITE
from refusalscope.selection.stability import bootstrap_choice

LIMITS = SelectionLimits()


class _Table:
    """Scores by prompt, all of them there, asked for or not."""

    def __init__(self, rows: dict[Candidate, dict[ScoreName, list[float]]]) -> None:
        self.rows = rows
        first = next(iter(rows.values()))
        self.n_harmful, self.n_harmless = len(first["bypass"]), len(first["kl"])
        self.baseline_harmful, self.baseline_harmless = 5.0, -5.0
        self.asked: set[tuple[ScoreName, Candidate]] = set()

    def score(self, parts: Sequence[Part]) -> list[float]:
        self.asked |= {(part.score, part.candidate) for part in parts}
        return [
            sum(self.rows[part.candidate][part.score][part.start : part.stop]) for part in parts
        ]

    def expected(self):
        return {}

    def put_hardest_first(self, candidate: Candidate, *, start: int) -> None:
        del candidate, start

    def by_prompt(self, name: ScoreName, candidate: Candidate) -> list[float]:
        return self.rows[candidate][name]


def _rows(*places: Candidate, rejected: str | None = "induce") -> list[CandidateScores]:
    return [
        CandidateScores(
            position=position, layer=layer, bypass=None, induce=None, kl=None, rejected=rejected
        )
        for position, layer in places
    ]


def _scores(bypass: float, induce: float, kl: float) -> dict[ScoreName, list[float]]:
    """Two prompts of each kind, a nat apart for induce and a tenth for KL."""
    return {
        "bypass": [bypass - 1, bypass + 1],
        "induce": [induce - 0.5, induce + 0.5],
        "kl": [kl - 0.05, kl + 0.05],
    }


def test_the_nearest_misses_its_limits_by_the_least_in_units_of_the_spread() -> None:
    table = _Table(
        {
            (-1, 2): _scores(-9.0, -3.0, 0.05),
            (-1, 3): _scores(-4.0, -0.3, 0.05),
            (-1, 4): _scores(-8.0, 2.0, 0.30),
        }
    )
    found = find_nearest(_rows(*table.rows), table, n_layers=10, limits=LIMITS)
    assert found.chosen is not None
    assert (found.chosen.position, found.chosen.layer) == (-1, 3)
    assert found.chosen.bypass == -4.0
    assert found.failed == ("induce",)
    assert ("bypass", (-1, 2)) not in table.asked


def test_of_equal_misses_the_lower_bypass_is_nearest() -> None:
    table = _Table({(-2, 2): _scores(-1.0, -1.0, 0.05), (-1, 3): _scores(-6.0, -1.0, 0.05)})
    found = find_nearest(_rows(*table.rows), table, n_layers=10, limits=LIMITS)
    assert found.chosen is not None
    assert found.chosen.layer == 3


def test_kl_is_scored_only_of_candidates_that_can_be_nearest() -> None:
    near = {(-1, i): _scores(-4.0, -0.3, 0.05) for i in range(2)}
    far = {(-2, i): _scores(-9.0, -9.0 - i, 0.05) for i in range(20)}
    table = _Table({**far, **near})
    found = find_nearest(_rows(*table.rows), table, n_layers=30, limits=LIMITS)
    assert found.chosen is not None
    assert (found.chosen.position, found.chosen.layer) == (-1, 0)
    asked = {candidate for name, candidate in table.asked if name == "kl"}
    assert asked == {*near, *((-2, i) for i in range(8))}, "the first ten, and then no more"
    unasked = [row for row in found.candidates if row.kl is None]
    assert len(unasked) == 12
    assert {row.rejected for row in unasked} == {"induce"}


def test_a_candidate_that_lacks_much_of_induce_may_still_be_nearest() -> None:
    """Ten with too high a KL come first; KL is scored on until nobody can be nearer."""
    high = {(-1, i): _scores(-4.0, 1.0, 0.9) for i in range(10)}
    low = {(-2, i): _scores(-4.0, -0.2 - 0.1 * i, 0.01) for i in range(5)}
    table = _Table({**high, **low})
    found = find_nearest(_rows(*table.rows), table, n_layers=30, limits=LIMITS)
    assert found.chosen is not None
    assert (found.chosen.position, found.chosen.layer) == (-2, 0)
    assert found.failed == ("induce",)


def test_a_candidate_that_fails_two_limits_misses_by_both() -> None:
    row = CandidateScores(position=-1, layer=2, bypass=None, induce=-1.0, kl=0.3, rejected="induce")
    spread = Spread(induce=2.0, kl=0.1)
    assert violation(row, LIMITS, spread) == pytest.approx(0.5 + 2.0)


def test_late_layers_and_scores_that_are_not_finite_are_no_choice() -> None:
    table = _Table({(-1, 2): _scores(-1.0, 5.0, 0.0), (-1, 9): _scores(-9.0, 5.0, 0.0)})
    rows = [*_rows((-1, 2), rejected=NOT_FINITE), *_rows((-1, 9), rejected=LATE)]
    found = find_nearest(rows, table, n_layers=10, limits=LIMITS)
    assert found.chosen is None
    assert [row.rejected for row in found.candidates] == [NOT_FINITE, LATE]


def test_resampled_prompts_show_which_candidate_could_have_won_instead() -> None:
    close: dict[ScoreName, list[float]] = {
        "bypass": [-5.0, -1.0, -5.0, -1.0],
        "induce": [2.0] * 4,
        "kl": [0.01] * 4,
    }
    other: dict[ScoreName, list[float]] = {
        "bypass": [-1.0, -4.5, -1.0, -4.5],
        "induce": [2.0] * 4,
        "kl": [0.01] * 4,
    }
    far: dict[ScoreName, list[float]] = {"bypass": [1.0] * 4, "induce": [2.0] * 4, "kl": [0.01] * 4}
    scores: dict[Candidate, dict[ScoreName, list[float]]] = {
        (-1, 2): close,
        (-1, 3): other,
        (-1, 4): far,
    }
    table = _Table(scores)
    rows = [
        CandidateScores(position=p, layer=layer, bypass=b, induce=2.0, kl=0.01, rejected=None)
        for (p, layer), b in zip(table.rows, (-3.0, -2.75, 1.0), strict=True)
    ]
    found = bootstrap_choice(rows, rows[0], table, n_layers=10, limits=LIMITS)
    shares = {(one.position, one.layer): one.share for one in found.winners}
    assert set(shares) == {(-1, 2), (-1, 3)}
    assert 0.5 < shares[-1, 2] < 0.8
    assert sum(shares.values()) == pytest.approx(1.0)
    assert found.none == 0.0
    assert found.bypass.low < -3.0 < found.bypass.high
    assert found.kl.low == found.kl.high == pytest.approx(0.01)


def test_resamples_in_which_nothing_passes_are_counted() -> None:
    table = _Table({(-1, 2): {"bypass": [-1.0] * 4, "induce": [1.0, -1.2] * 2, "kl": [0.01] * 4}})
    row = CandidateScores(
        position=-1, layer=2, bypass=-1.0, induce=-0.1, kl=0.01, rejected="induce"
    )
    found = bootstrap_choice([row], row, table, n_layers=10, limits=LIMITS)
    assert 0.5 < found.none < 0.9
