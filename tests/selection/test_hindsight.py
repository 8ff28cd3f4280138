"""The cheapest proof in hindsight: by hand, and never dearer than what the search needs."""

import importlib.util
import random
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from refusalscope.results.records import SelectionLimits
from refusalscope.selection.scorer import Candidate, Expected, Part, ScoreName
from refusalscope.selection.search import search
from refusalscope.selection.select import passing

LIMITS = SelectionLimits()
N_LAYERS = 10
HINDSIGHT = Path(__file__).resolve().parents[2] / "benchmarks" / "hindsight.py"
Table = dict[Candidate, dict[ScoreName, list[float]]]


@pytest.fixture(scope="module")
def hindsight() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hindsight", HINDSIGHT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Counted:
    """Serves a table, and counts what a model would have run."""

    baseline_harmful, baseline_harmless = 4.0, -6.0

    def __init__(self, rows: Table) -> None:
        self.rows = rows
        first = next(iter(rows.values()))
        self.n_harmful, self.n_harmless = len(first["bypass"]), len(first["induce"])
        self.order = list(range(self.n_harmful))
        self.passes = 0.0

    def score(self, parts: Sequence[Part]) -> list[float]:
        found = []
        for part in parts:
            own = self.rows[part.candidate][part.score]
            if part.score == "bypass":
                own = [own[i] for i in self.order]
            share = (N_LAYERS - part.candidate[1]) / N_LAYERS if part.score == "induce" else 1.0
            self.passes += share * (part.stop - part.start)
            found.append(sum(own[part.start : part.stop]))
        return found

    def expected(self) -> Expected:
        return {}

    def put_hardest_first(self, candidate: Candidate, *, start: int) -> None:
        rest = self.order[start:]
        rest.sort(key=lambda prompt: self.rows[candidate]["bypass"][prompt], reverse=True)
        self.order[start:] = rest


def test_by_hand(hindsight: ModuleType) -> None:
    table: Table = {
        (-1, 5): {"bypass": [-2.0, -4.0], "induce": [1.0, 1.0], "kl": [0.0, 0.0]},
        # KL of one prompt in two is proof: 0.3 over two is more than 0.1.
        (-1, 4): {"bypass": [-9.0, -9.0], "induce": [2.0, 2.0], "kl": [0.0, 0.3]},
        # Late.
        (-1, 9): {"bypass": [-9.0, -9.0], "induce": [2.0, 2.0], "kl": [0.0, 0.0]},
    }
    # The winner: two of bypass, two of KL, two half passes of induce; one pass of the other.
    passes = hindsight.hindsight_passes(
        table, n_layers=N_LAYERS, limits=LIMITS, chosen=(-1, 5), passes=True, with_baseline=False
    )
    assert passes == pytest.approx(2 + 2 + 2 * 0.5 + 1)
    with_baseline = hindsight.hindsight_passes(
        table, n_layers=N_LAYERS, limits=LIMITS, chosen=(-1, 5), passes=True
    )
    assert with_baseline == passes + 4


@pytest.mark.parametrize("seed", range(8))
def test_no_search_is_cheaper_and_ours_is_not_far_off(hindsight: ModuleType, seed: int) -> None:
    rng = random.Random(seed)
    table: Table = {}
    for position in (-2, -1):
        for layer in range(N_LAYERS):
            bypass, induce, kl = rng.uniform(-8, 6), rng.uniform(-8, 6), rng.uniform(0.0, 0.2)
            table[position, layer] = {
                "bypass": [rng.gauss(bypass, 1.0) for _ in range(12)],
                "induce": [rng.gauss(induce, 1.0) for _ in range(12)],
                "kl": [abs(rng.gauss(kl, 0.03)) for _ in range(12)],
            }
    counted = _Counted(table)
    rows = search(list(table), counted, n_layers=N_LAYERS, limits=LIMITS)
    best = passing(rows)
    assert best is not None
    least = hindsight.hindsight_passes(
        table,
        n_layers=N_LAYERS,
        limits=LIMITS,
        chosen=(best.position, best.layer),
        passes=True,
        with_baseline=False,
    )
    assert least <= counted.passes
    assert counted.passes < 2.5 * least
