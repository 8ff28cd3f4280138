"""Scores that were recorded elsewhere, served to the search as if a model computed them."""

from collections.abc import Sequence

from refusalscope.results.records import CandidateScores
from refusalscope.selection.search import Part


class RecordedScorer:
    """Serves recorded means as if of one prompt, and counts what a model would have had to run.

    A NaN of the recording (None) is served as NaN.

    Attributes:
        n_harmful: One: the recording holds means only.
        n_harmless: One.
        sweeps: Validation sweeps asked for, in units of a pass through the whole model; one that
            resumes at layer l of L counts (L - l) / L.
    """

    def __init__(self, scores: Sequence[CandidateScores], *, n_layers: int) -> None:
        self._scores = {(s.position, s.layer): s for s in scores}
        self._n_layers = n_layers
        self.n_harmful = self.n_harmless = 1
        self.sweeps = 0.0

    def induce(self, parts: Sequence[Part]) -> Sequence[float]:
        """Recorded induce scores."""
        layers = [part.candidate[1] for part in parts]
        self.sweeps += sum((self._n_layers - layer) / self._n_layers for layer in layers)
        return [_number(self._scores[part.candidate].induce) for part in parts]

    def kl(self, parts: Sequence[Part]) -> Sequence[float]:
        """Recorded KL scores."""
        self.sweeps += len(parts)
        return [_number(self._scores[part.candidate].kl) for part in parts]

    def bypass(self, parts: Sequence[Part]) -> Sequence[float]:
        """Recorded bypass scores."""
        self.sweeps += len(parts)
        return [_number(self._scores[part.candidate].bypass) for part in parts]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
