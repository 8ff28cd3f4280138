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
        tolerance: In nats; where a difference is larger, nothing is written.
    """

    engine: Literal["vllm"]
    version: str
    tolerance: float
    rows: tuple[ProofRow, ...]
