"""What a search says on its way."""

from collections.abc import Sequence

from refusalscope.results.records import SelectionLimits
from refusalscope.selection.scorer import Candidate, Expected, Part
from refusalscope.selection.search import search
from refusalscope.selection.watch import Lead

N = 8


class _Scores:
    """Each prompt of a candidate scores the same; induce and bypass by layer."""

    n_harmful = n_harmless = N
    baseline_harmful, baseline_harmless = 4.0, -6.0

    def __init__(self) -> None:
        self.n_scored = 0

    def score(self, parts: Sequence[Part]) -> list[float]:
        self.n_scored += sum(part.stop - part.start for part in parts)
        one = {"bypass": lambda layer: -layer, "induce": lambda layer: layer - 2.5, "kl": _small}
        return [
            (part.stop - part.start) * float(one[part.score](part.candidate[1])) for part in parts
        ]

    def expected(self) -> Expected:
        return {}

    def put_hardest_first(self, candidate: Candidate, *, start: int) -> None:
        del candidate, start


def _small(_layer: int) -> float:
    return 0.01


class _Heard:
    def __init__(self, scores: _Scores) -> None:
        self.scores = scores
        self.left: list[float] = []
        self.led: list[Sequence[Lead]] = []
        self.n_scored_at_leads = 0
        self.are_estimates = False

    def expect(self, sweeps: float) -> None:
        self.left.append(sweeps)

    def leads(self, leads: Sequence[Lead], *, are_estimates: bool) -> None:
        self.led.append(leads)
        self.are_estimates = are_estimates
        self.n_scored_at_leads = self.scores.n_scored


def test_who_leads_is_said_once_and_early_and_what_is_left_shrinks_to_nothing() -> None:
    scores = _Scores()
    heard = _Heard(scores)
    candidates = [(-1, layer) for layer in range(10)]
    rows = search(candidates, scores, n_layers=10, limits=SelectionLimits(), watch=heard)
    (leads,) = heard.led
    assert [lead.candidate[1] for lead in leads] == [7, 6, 5, 4, 3], "layers from 8 on are late"
    assert [lead.bypass for lead in leads] == [-7.0, -6.0, -5.0, -4.0, -3.0]
    assert heard.n_scored_at_leads < 0.1 * 3 * N * len(candidates)
    best = min(row.bypass for row in rows if row.rejected is None and row.bypass is not None)
    assert best == -7.0
    assert heard.left == sorted(heard.left, reverse=True)
    assert 0 < heard.left[-1] < heard.left[0] < 3 * len(candidates)


def test_where_none_induces_those_that_lack_least_lead() -> None:
    scores = _Scores()
    heard = _Heard(scores)
    candidates = [(-1, layer) for layer in range(3)]
    search(candidates, scores, n_layers=10, limits=SelectionLimits(), watch=heard)
    (leads,) = heard.led
    assert [(lead.candidate[1], lead.bypass) for lead in leads] == [(2, None), (1, None), (0, None)]
