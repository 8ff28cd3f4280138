"""Interventions beside fine-tuning: evaluation/finetune.json, and how the adapter was trained."""

from typing import Literal

from pydantic import Field

from refusalscope.results.loss_records import TextName
from refusalscope.results.record import Record
from refusalscope.results.records import Measure, Rate

Variant = Literal["baseline", "ablation", "subtraction", "lora"]
"""The rows of the paper's Table 10."""


class LoraTraining(Record):
    """training.json beside the adapter.

    Attributes:
        source: File of the pairs, or the organism's language.
        sha256: Of the pairs in their order.
        targets: Kinds of modules that have an adapter.
        epoch_losses: Mean loss of the answers' tokens in each epoch, in nats.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    source: str
    sha256: str
    n_pairs: int
    rank: int
    alpha: int
    epochs: int
    learning_rate: float
    batch_size: int
    seed: int
    targets: tuple[str, ...]
    epoch_losses: tuple[float, ...]
    versions: dict[str, str]


class VariantNumbers(Record):
    """What one variant of the model does.

    Attributes:
        rates: By judge; those without a verdict on this variant are left out.
        losses: Nats per token, of the texts that were given.
    """

    variant: Variant
    rates: dict[str, Rate]
    losses: dict[TextName, float]


class FinetuneComparison(Record):
    """evaluation/finetune.json.

    Attributes:
        judges: What each judge measures.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    dataset: str
    training: LoraTraining
    judges: dict[str, Measure]
    rows: tuple[VariantNumbers, ...]
