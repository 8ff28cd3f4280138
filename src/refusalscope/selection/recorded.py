"""Scores that were recorded elsewhere, served to the search as if a model computed them."""

from collections.abc import Sequence

from refusalscope.results.records import CandidateScores
from refusalscope.selection.search import Candidate


class RecordedScorer:
    """Serves recorded means as one chunk, and counts what a model would have had to run.

    A NaN of the recording (None) is served as NaN.

    Attributes:
        sweeps: Validation sweeps asked for, in units of a pass through the whole model; one that
            resumes at layer l of L counts (L - l) / L.
    """

    def __init__(self, scores: Sequence[CandidateScores], *, n_layers: int) -> None:
        self._scores = {(s.position, s.layer): s for s in scores}
        self._n_layers = n_layers
        self.sweeps = 0.0

    @property
    def induce_chunks(self) -> Sequence[int]:
        """One chunk of one prompt: the recording holds means only."""
        return (1,)

    @property
    def kl_chunks(self) -> Sequence[int]:
        """One chunk of one prompt."""
        return (1,)

    @property
    def bypass_chunks(self) -> Sequence[int]:
        """One chunk of one prompt."""
        return (1,)

    def induce(self, candidates: Sequence[Candidate], chunk: int) -> Sequence[float]:
        """Recorded induce scores."""
        del chunk
        self.sweeps += sum((self._n_layers - layer) / self._n_layers for _, layer in candidates)
        return [_number(self._scores[c].induce) for c in candidates]

    def kl(self, candidates: Sequence[Candidate], chunk: int) -> Sequence[float]:
        """Recorded KL scores."""
        del chunk
        self.sweeps += len(candidates)
        return [_number(self._scores[c].kl) for c in candidates]

    def bypass(self, candidates: Sequence[Candidate], chunk: int) -> Sequence[float]:
        """Recorded bypass scores."""
        del chunk
        self.sweeps += len(candidates)
        return [_number(self._scores[c].bypass) for c in candidates]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
