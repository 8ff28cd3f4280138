"""The order of evaluation: the winner of the full grid from as few forward passes as possible.

The paper's code scores every candidate three times over the validation sets and then filters. The
same winner follows from less, and exactly, because each score is bounded prompt by prompt: the
refusal metric above and below, KL below by zero. So a sum over some of the prompts may prove that a
candidate has too low an induce, too high a KL, or a bypass that is not the lowest.

1. Candidates from late layers are cut; they need no pass.
2. One backward pass a prompt estimates induce and bypass of all candidates to first order: who will
   probably pass, and who of those will win. Where the model has no gradients, induce on a few
   prompts and bypass on some show it. The likely winner is scored in full. If it passes, its bypass
   is the one to beat.
3. Everyone else is dropped by the proof that will probably cost least: against induce, where a pass
   may begin at the candidate's own layer, or against bypass, on the prompts first that the one to
   beat bypassed least. Whoever seems to be better than the best is scored in full, bypass first.

What is probable (that prompts to come score like those before, and as estimated) decides only what
is computed next, and never who is dropped.
"""

import math
from collections.abc import Sequence

from refusalscope.metrics.refusal_metric import REFUSAL_METRIC_BOUND
from refusalscope.results.records import CandidateScores, SelectionLimits
from refusalscope.selection.scorer import SCORE_NAMES, Candidate, Part, ScoreName, Scorer
from refusalscope.selection.select import (
    INDUCE,
    KL,
    LATE,
    NOT_FINITE,
    OUTRANKED,
    fails_induce,
    fails_kl,
    layer_limit,
    rejection,
)
from refusalscope.selection.tally import Tally
from refusalscope.selection.watch import Lead, Nobody, Watch

N_LEADS = 5
"""Candidates that are named after the first look."""


def search(
    candidates: Sequence[Candidate],
    scorer: Scorer,
    *,
    n_layers: int,
    limits: SelectionLimits,
    watch: Watch | None = None,
) -> list[CandidateScores]:
    """Score lazily; the same winner as `score_all`, most other scores left None.

    Args:
        watch: Told who leads after the first look, and now and then about how much is left.

    Returns:
        One row a candidate, in the order given.
    """
    expected = scorer.expected()
    tallies = [Tally(c, scorer, expected) for c in sorted(candidates)]
    limit = layer_limit(n_layers, limits)
    for tally in tallies:
        if tally.candidate[1] >= limit:
            tally.rejected = LATE
    found = _Search(tallies, scorer, n_layers=n_layers, limits=limits, watch=watch or Nobody())
    found.run(has_estimates=bool(expected))
    by_candidate = {t.candidate: t.scores() for t in tallies}
    return [by_candidate[c] for c in candidates]


def leading(
    candidates: Sequence[Candidate],
    scorer: Scorer,
    *,
    n_layers: int,
    limits: SelectionLimits,
    n: int,
) -> list[Candidate]:
    """Who leads by first-order estimates, the best first; nobody where there are none."""
    expected = scorer.expected()
    limit = layer_limit(n_layers, limits)
    tallies = [Tally(c, scorer, expected) for c in sorted(candidates) if c[1] < limit]
    return [t.candidate for t in _by_promise(tallies, limits)[:n]] if expected else []


def _by_promise(tallies: Sequence[Tally], limits: SelectionLimits) -> list[Tally]:
    """Those that will probably pass, by bypass; then the others, by induce."""
    passes = [t for t in tallies if not fails_induce(t.induce.estimate, limits)]
    first = sorted(passes, key=lambda t: t.bypass.estimate)
    rest = sorted(tallies, key=lambda t: -t.induce.estimate)
    return [*first, *(t for t in rest if t not in passes)]


def score_all(
    candidates: Sequence[Candidate], scorer: Scorer, *, n_layers: int, limits: SelectionLimits
) -> list[CandidateScores]:
    """Score every candidate in full: the paper's Figure 11."""
    tallies = {candidate: Tally(candidate, scorer) for candidate in candidates}
    for name in SCORE_NAMES:
        parts = [t.part(name, stop=t.mean(name).end) for t in tallies.values()]
        for part, total in zip(parts, scorer.score(parts), strict=True):
            tallies[part.candidate].mean(name).add(part, total)
    rows = [tallies[candidate].scores() for candidate in candidates]
    return [
        row.model_copy(update={"rejected": rejection(row, n_layers=n_layers, limits=limits)})
        for row in rows
    ]


class _Search:
    """The candidates still in question, and the bypass to beat."""

    def __init__(
        self,
        tallies: Sequence[Tally],
        scorer: Scorer,
        *,
        n_layers: int,
        limits: SelectionLimits,
        watch: Watch,
    ) -> None:
        self._by_candidate = {tally.candidate: tally for tally in tallies}
        self._open = [tally for tally in tallies if tally.rejected is None]
        self._scorer = scorer
        self._n_layers = n_layers
        self._limits = limits
        self._watch = watch
        self._best = math.inf
        self._leader: Tally | None = None

    def run(self, *, has_estimates: bool) -> None:
        """Score until nobody is in question."""
        if not has_estimates:
            self._score([t.part("induce", stop=t.induce.first(16)) for t in self._open])
            self._score([t.part("bypass", stop=t.bypass.first(4)) for t in self._promising()])
        self._watch.leads(self._leads(), are_estimates=has_estimates)
        while self._open:
            self._watch.expect(sum(self._cost_left(tally) for tally in self._open))
            self._score(self._next_parts())

    def _leads(self) -> list[Lead]:
        return [
            Lead(
                candidate=t.candidate,
                bypass=t.bypass.estimate if t.bypass.is_known else None,
                induce=t.induce.estimate,
            )
            for t in _by_promise(self._open, self._limits)[:N_LEADS]
        ]

    def _cost_left(self, tally: Tally) -> float:
        """In sweeps: the cheapest proof against a candidate, or all that is left to score."""
        n_set = (self._scorer.n_harmful + self._scorer.n_harmless) / 2
        cheapest = min(math.prod(needed) for needed in self._proofs(tally).values())
        whole = sum(
            (tally.mean(name).end - tally.mean(name).n_done) * self._layers_run(name, tally)
            for name in SCORE_NAMES
        )
        return min(cheapest, whole) / n_set

    def _next_parts(self) -> list[Part]:
        promising = self._promising()
        if math.isinf(self._best) and promising:
            if self._leader not in promising:
                self._leader = min(promising, key=lambda t: t.bypass.estimate)
            return self._completion(self._leader)
        return [part for t in self._open for part in self._cheapest_proof(t) or self._challenge(t)]

    def _promising(self) -> list[Tally]:
        return [t for t in self._open if not fails_induce(t.induce.estimate, self._limits)]

    def _cheapest_proof(self, tally: Tally) -> list[Part]:
        """The part that will probably get a candidate dropped for the least; none if none will."""
        needed = self._proofs(tally)
        name = min(needed, key=lambda name: math.prod(needed[name]))
        n, _ = needed[name]
        if math.isinf(n):
            return []
        if name == "bypass":
            n /= 2  # the next prompts are the hardest, so fewer may do
        return [tally.part(name, stop=tally.mean(name).stop_after(n))]

    def _proofs(self, tally: Tally) -> dict[ScoreName, tuple[float, float]]:
        """For each score how many more prompts will drop a candidate, and the share of layers run.

        Infinitely many where all of them will not.
        """
        bound, limits = REFUSAL_METRIC_BOUND, self._limits
        n: dict[ScoreName, float] = {
            "induce": tally.induce.n_to_reach(limits.min_induce, bound=bound),
            "kl": tally.kl.n_to_reach(limits.max_kl, bound=0.0),
            "bypass": tally.bypass.n_to_reach(self._best, bound=-bound),
        }
        return {name: (n[name], self._layers_run(name, tally)) for name in n}

    def _layers_run(self, name: ScoreName, tally: Tally) -> float:
        """An addition changes nothing before its layer."""
        return (self._n_layers - tally.candidate[1]) / self._n_layers if name == "induce" else 1.0

    def _challenge(self, tally: Tally) -> list[Part]:
        """The rest of bypass, which most who come close lose by; then all that is left."""
        if tally.kl.n_done and not tally.bypass.is_complete:
            return [tally.part("bypass", stop=tally.bypass.end)]
        return self._completion(tally)

    def _completion(self, tally: Tally) -> list[Part]:
        """All that is left to score; before it, a few prompts of KL, which show the bad."""
        if not tally.kl.n_done:
            return [tally.part("kl", stop=tally.kl.first(16))]
        return [
            tally.part(name, stop=tally.mean(name).end)
            for name in SCORE_NAMES
            if not tally.mean(name).is_complete
        ]

    def _score(self, parts: Sequence[Part]) -> None:
        """Score parts, drop whoever that proves to be out, settle who is complete."""
        for part, total in zip(parts, self._scorer.score(parts), strict=True):
            tally = self._by_candidate[part.candidate]
            tally.mean(part.score).add(part, total)
            if not math.isfinite(total):
                tally.rejected = NOT_FINITE
        for tally in self._open:
            tally.rejected = tally.rejected or self._failure(tally)
            if tally.rejected is None and tally.is_complete:
                if math.isinf(self._best):
                    self._scorer.put_hardest_first(tally.candidate, start=self._first_unscored())
                self._best = min(self._best, tally.bypass.estimate)
        for tally in self._open:
            if tally.rejected is None and not tally.is_complete and self._is_beaten(tally):
                tally.rejected = OUTRANKED
        self._open = [t for t in self._open if t.rejected is None and not t.is_complete]

    def _first_unscored(self) -> int:
        """The first place of the harmful prompts that nobody in question has been scored on."""
        return max((t.bypass.n_done for t in self._open if not t.bypass.is_complete), default=0)

    def _failure(self, tally: Tally) -> str | None:
        """The limit that a candidate fails whatever prompts to come will score."""
        if fails_induce(tally.induce.if_rest_is(REFUSAL_METRIC_BOUND), self._limits):
            return INDUCE
        # The formula of the paper's code may be a little below zero, so it decides only as a whole.
        is_final = tally.kl.is_complete or self._limits.rule != "code"
        if is_final and fails_kl(tally.kl.if_rest_is(0.0), self._limits):
            return KL
        return None

    def _is_beaten(self, tally: Tally) -> bool:
        return tally.bypass.if_rest_is(-REFUSAL_METRIC_BOUND) > self._best
