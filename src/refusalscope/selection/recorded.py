"""Scores that were recorded elsewhere, served to the search as if a model computed them."""

from collections.abc import Sequence

from refusalscope.results.records import CandidateScores
from refusalscope.selection.scorer import Candidate, Expected, Part


class RecordedScorer:
    """Serves recorded means as if of one prompt, and counts what a model would have had to run.

    A NaN of the recording (None) is served as NaN.

    Attributes:
        n_harmful: One: the recording holds means only.
        n_harmless: One.
        baseline_harmful: Not recorded, so 0; the search asks for it only to guess.
        baseline_harmless: The same.
        sweeps: Validation sweeps asked for, in units of a pass through the whole model; one that
            resumes at layer l of L counts (L - l) / L.
    """

    def __init__(self, scores: Sequence[CandidateScores], *, n_layers: int) -> None:
        self._scores = {(s.position, s.layer): s for s in scores}
        self._n_layers = n_layers
        self.n_harmful = self.n_harmless = 1
        self.baseline_harmful = self.baseline_harmless = 0.0
        self.sweeps = 0.0

    def score(self, parts: Sequence[Part]) -> Sequence[float]:
        """The recorded scores."""
        for part in parts:
            layers_run = self._n_layers - (part.candidate[1] if part.score == "induce" else 0)
            self.sweeps += layers_run / self._n_layers
        return [_number(getattr(self._scores[part.candidate], part.score)) for part in parts]

    def expected(self) -> Expected:
        """Nothing: a recording has no gradients."""
        return {}

    def put_hardest_first(self, candidate: Candidate, *, start: int) -> None:
        """Nothing to put in order: the recording is of one prompt."""


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
