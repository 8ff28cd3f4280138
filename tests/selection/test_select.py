import random
from collections.abc import Sequence

import pytest

from refusalscope.errors import SelectionError
from refusalscope.results.records import CandidateScores, SelectionLimits
from refusalscope.selection.recorded import RecordedScorer
from refusalscope.selection.scorer import Expected, Part, ScoreName
from refusalscope.selection.search import score_all, search
from refusalscope.selection.select import layer_limit, rejection, select_candidate
from refusalscope.selection.select_direction import select_recorded

PUBLISHED = SelectionLimits()
CODE = SelectionLimits(rule="code")
SEEDS = [*range(20), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(20, 50))]


def _score(position: int, layer: int, bypass: float, induce: float = 1.0, kl: float = 0.01):
    return CandidateScores(
        position=position, layer=layer, bypass=bypass, induce=induce, kl=kl, rejected=None
    )


def test_the_lowest_bypass_that_passes_wins() -> None:
    rows = [
        _score(-1, 3, -9.0, kl=0.2),
        _score(-1, 4, -8.0, induce=-0.1),
        _score(-1, 8, -7.0),
        _score(-2, 5, -5.0),
        _score(-1, 5, -6.0),
    ]
    chosen = select_recorded(rows, n_layers=10, limits=PUBLISHED)
    assert (chosen.position, chosen.layer) == (-1, 5)


def test_ties_go_to_the_earlier_position_then_layer() -> None:
    rows = [_score(-1, 2, -5.0), _score(-2, 6, -5.0), _score(-2, 3, -5.0)]
    chosen = select_recorded(rows, n_layers=10, limits=PUBLISHED)
    assert (chosen.position, chosen.layer) == (-2, 3)


@pytest.mark.parametrize(
    ("n_layers", "last_published", "last_code"),
    [
        (18, 14, 13),
        (24, 19, 18),
        (28, 22, 21),
        (32, 25, 24),
        (40, 31, 31),
        (60, 47, 47),
        (80, 63, 63),
    ],
)
def test_the_code_is_one_layer_stricter_where_the_paper_says_so(
    n_layers: int, last_published: int, last_code: int
) -> None:
    for limits, last in ((PUBLISHED, last_published), (CODE, last_code)):
        assert last < layer_limit(n_layers, limits) <= last + 1


def test_the_edges_are_in_by_code_and_out_as_published() -> None:
    for row in (_score(-1, 2, -5.0, kl=0.1), _score(-1, 2, -5.0, induce=0.0)):
        assert rejection(row, n_layers=10, limits=CODE) is None
        assert rejection(row, n_layers=10, limits=PUBLISHED) is not None


def test_nothing_that_passes_is_an_error_that_counts() -> None:
    rows = [_score(-1, 9, -5.0), _score(-1, 1, -5.0, kl=0.5), _score(-1, 2, -5.0, induce=-3.0)]
    with pytest.raises(
        SelectionError, match=r"none of 3 candidates passed: 1 come from layer 8"
    ) as e:
        select_recorded(rows, n_layers=10, limits=PUBLISHED)
    assert "1 induce refusal below 0.0, 1 have KL above 0.1" in str(e.value)
    assert "--min-induce" in str(e.value)


def _random_scores(seed: int, n_layers: int) -> list[CandidateScores]:
    rng = random.Random(seed)
    rows = []
    for position in range(-4, 0):
        for layer in range(n_layers):
            nan = rng.random() < 0.05
            rows.append(
                CandidateScores(
                    position=position,
                    layer=layer,
                    bypass=None if nan else rng.choice([-6.0, -5.5, rng.uniform(-12, 6)]),
                    induce=rng.uniform(-6, 4),
                    kl=None if nan else rng.uniform(0, 0.3),
                    rejected=None,
                )
            )
    return rows


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("limits", [PUBLISHED, CODE])
def test_the_lazy_search_finds_the_winner_of_the_full_grid(
    seed: int, limits: SelectionLimits
) -> None:
    rows = _random_scores(seed, n_layers=15)
    candidates = [(s.position, s.layer) for s in rows]
    scorer = RecordedScorer(rows, n_layers=15)
    lazy = search(candidates, scorer, n_layers=15, limits=limits)
    chosen = select_candidate(lazy, n_layers=15, limits=limits)
    full = score_all(candidates, RecordedScorer(rows, n_layers=15), n_layers=15, limits=limits)
    expected = select_candidate(full, n_layers=15, limits=limits)
    assert (chosen.position, chosen.layer) == (expected.position, expected.layer)
    assert [(s.position, s.layer) for s in lazy] == candidates
    assert scorer.sweeps < 3 * len(rows) / 2


class _Prompts:
    """Scores by prompt, so that parts are real: what a model would serve."""

    def __init__(self, seed: int, candidates: list[tuple[int, int]]) -> None:
        rng = random.Random(seed)
        self.n_harmful, self.n_harmless = 9, 8
        self.asked = 0
        self.guesses: Expected = {}
        self.baseline_harmful, self.baseline_harmless = 6.0, -6.0
        self._scores = {
            "kl": {c: [abs(rng.gauss(0, 0.1)) for _ in range(8)] for c in candidates},
            "bypass": {c: [max(-18.42, rng.gauss(-8, 6)) for _ in range(9)] for c in candidates},
            "induce": {c: [min(18.42, rng.gauss(-4, 9)) for _ in range(8)] for c in candidates},
        }

    def score(self, parts: Sequence[Part]) -> list[float]:
        scores = [self._scores[part.score][part.candidate] for part in parts]
        for part, own in zip(parts, scores, strict=True):
            assert 0 <= part.start < part.stop <= len(own)
            self.asked += part.stop - part.start
        return [sum(own[part.start : part.stop]) for part, own in zip(parts, scores, strict=True)]

    def expected(self) -> Expected:
        return self.guesses

    def put_hardest_first(self, candidate: tuple[int, int], *, start: int) -> None:
        known = self._scores["bypass"][candidate]
        rest = sorted(range(start, self.n_harmful), key=known.__getitem__, reverse=True)
        order = [*range(start), *rest]
        for own, scores in self._scores["bypass"].items():
            self._scores["bypass"][own] = [scores[i] for i in order]


class _HardPrompts(_Prompts):
    """The last four of 32 harmful prompts are refused whatever is ablated."""

    def __init__(self, candidates: list[tuple[int, int]]) -> None:
        super().__init__(0, candidates)
        self.n_harmful = 32
        for rank, own in enumerate(candidates):
            self._scores["bypass"][own] = [rank / 4 - 15.0] * 28 + [10.0] * 4
            self._scores["induce"][own] = [5.0] * 8
            self._scores["kl"][own] = [0.01] * 8


class _InOrder(_HardPrompts):
    def put_hardest_first(self, candidate: tuple[int, int], *, start: int) -> None:
        pass


def test_prompts_that_the_first_to_pass_hardly_bypasses_are_asked_first() -> None:
    candidates = [(p, layer) for p in (-2, -1) for layer in range(20)]
    scorers = _HardPrompts(candidates), _InOrder(candidates)
    for scorer in scorers:
        found = search(candidates, scorer, n_layers=20, limits=PUBLISHED)
        assert select_candidate(found, n_layers=20, limits=PUBLISHED).layer == 0
    assert scorers[0].asked < scorers[1].asked


def _wild_guesses(seed: int, candidates: list[tuple[int, int]]) -> Expected:
    """Estimates that have nothing to do with the scores."""
    rng = random.Random(f"guesses {seed}")
    names: tuple[ScoreName, ScoreName] = ("bypass", "induce")
    return {(name, c): rng.gauss(0, 10) for name in names for c in candidates}


@pytest.mark.parametrize("seed", SEEDS)
def test_dropping_on_partial_sums_never_drops_the_winner(seed: int) -> None:
    candidates = [(p, layer) for p in (-2, -1) for layer in range(20)]
    lazy_scorer, full_scorer = _Prompts(seed, candidates), _Prompts(seed, candidates)
    if seed % 2:
        lazy_scorer.guesses = _wild_guesses(seed, candidates)
    lazy = search(candidates, lazy_scorer, n_layers=20, limits=PUBLISHED)
    full = score_all(candidates, full_scorer, n_layers=20, limits=PUBLISHED)
    assert lazy_scorer.asked < full_scorer.asked
    if all(row.rejected for row in full):
        assert all(row.rejected for row in lazy)
        return
    chosen = select_candidate(lazy, n_layers=20, limits=PUBLISHED)
    expected = select_candidate(full, n_layers=20, limits=PUBLISHED)
    assert (chosen.position, chosen.layer) == (expected.position, expected.layer)
    assert chosen.bypass == pytest.approx(expected.bypass)


@pytest.mark.parametrize("seed", range(5))
def test_scores_that_the_lazy_search_gives_are_those_of_the_full_grid(seed: int) -> None:
    candidates = [(p, layer) for p in (-2, -1) for layer in range(20)]
    lazy = search(candidates, _Prompts(seed, candidates), n_layers=20, limits=PUBLISHED)
    full = score_all(candidates, _Prompts(seed, candidates), n_layers=20, limits=PUBLISHED)
    n_compared = 0
    for mine, theirs in zip(lazy, full, strict=True):
        for name in ("bypass", "induce", "kl"):
            if getattr(mine, name) is not None:
                assert getattr(mine, name) == pytest.approx(getattr(theirs, name))
                n_compared += 1
    assert n_compared > 10
