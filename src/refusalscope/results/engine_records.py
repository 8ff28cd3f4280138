"""That another engine writes what transformers would, as measured before its first completion."""

from typing import Literal

from refusalscope.results.record import Record
from refusalscope.results.records import Condition


class ProofRow(Record):
    """One condition.

    Attributes:
        n_tokens: Scored tokens of all probe texts.
        largest: The largest difference of a log-probability, in nats.
    """

    condition: Condition
    n_tokens: int
    largest: float


class EngineProof(Record):
    """completions/engine.json: what engine wrote, and how far its log-probabilities are from ours.

    Attributes:
        by: Where the interventions were: hooks in its workers, or weights of edited checkpoints.
        tolerance: In nats; where a difference is larger, nothing is written.
    """

    engine: Literal["vllm"]
    by: Literal["hooks", "weights"] = "hooks"
    version: str
    tolerance: float
    rows: tuple[ProofRow, ...]

    def beside(self, earlier: "EngineProof | None") -> "EngineProof":
        """This, with what the same engine showed of other conditions before."""
        same = ("engine", "by", "version", "tolerance")
        if earlier is None or any(getattr(self, k) != getattr(earlier, k) for k in same):
            return self
        own = {row.condition for row in self.rows}
        kept = tuple(row for row in earlier.rows if row.condition not in own)
        return self.model_copy(update={"rows": (*kept, *self.rows)})
