"""What `weights scan` finds in a checkpoint without its original, and the panel it is judged by."""

from typing import ClassVar, Literal

from pydantic import Field

from refusalscope.results.compare_records import Comparison
from refusalscope.results.record import Record
from refusalscope.results.records import Rate

ScanVerdict = Literal[
    "edited along one direction",
    "edited per layer",
    "suspicious",
    "nothing found",
    "cannot say",
]
"""`nothing found` never means clean."""
Half = Literal["calibration", "held out"]


class ScanSignals(Record):
    """The numbers of one checkpoint that are judged; each is 1 or less, and small is odd.

    A gap is the smallest of lambda_k / lambda_(k+1) for k = 1 to 4 of the lowest eigenvalues of
    what a group of tensors can write, every channel brought to one size.
    """

    joint: float | None
    """Gap of all layers together."""
    whole: float | None
    """Gap of all layers and the embedding."""
    site: float | None
    """The lowest gap of all layers' outputs of one kind, attention or MLP."""
    layer: float | None
    """The lowest gap of a single layer."""
    third_layer: float | None
    """The third lowest."""
    top: float | None
    """Of all layers together: second largest eigenvalue over the largest."""


class Threshold(Record):
    """Below which value a signal counts."""

    suspicious: float
    edited: float | None
    """None for a signal that alone does not tell an edit."""


class PanelRow(Record):
    """One clean checkpoint of a panel."""

    name: str
    kind: str
    """Checkpoints of a kind are split into halves by themselves."""
    half: Half
    d_model: int
    n_layers: int
    dtype: str
    signals: ScanSignals


class ScanPanel(Record):
    """Clean checkpoints, the thresholds that one half of them gives, and what the other says."""

    mend: ClassVar[str] = "build it again by `weights panel`"
    schema_version: Literal[1] = Field(default=1, alias="schema")
    title: str
    rows: tuple[PanelRow, ...]
    thresholds: dict[str, Threshold]
    false_positives: Rate
    """Share of the held-out half that is called anything but `nothing found`."""
    false_edits: Rate
    """Share of the held-out half that is called edited."""
    versions: dict[str, str]


class LayerScan(Record):
    """One decoder layer, or the embedding, by itself."""

    layer: int | None
    """None for the embedding."""
    gap: float | None
    """None where its tensors are too narrow to be judged by themselves."""
    n_directions: int | None
    """After how many of the lowest eigenvalues the gap lies."""
    dose: float | None
    """Share of the layer's lowest direction that is missing, if it is an edit's."""
    is_flagged: bool
    leftover: float | None
    """Energy along the shared direction over what a direction has that nothing is known of; None
    where no shared direction was found."""


class ScanRecord(Record):
    """What `weights scan` finds."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    checkpoint: str
    verdict: ScanVerdict
    detail: str
    """The verdict's reasons in one sentence."""
    signals: ScanSignals | None
    """None where nothing could be measured."""
    n_directions: int | None
    """How many directions are missing; None where the verdict is no edit."""
    dose: float | None
    """Estimated share of the direction that was removed; None where the verdict is no edit."""
    dose_range: tuple[float, float] | None
    """The dose if the direction had a quarter of the usual energy, or sixteen times it."""
    layers_reached: tuple[int, ...]
    """Layers in which the direction is missing."""
    site: str | None
    """The kind of output, `attn_out` or `mlp_out`, where it is missing in one kind alone."""
    embedding_reached: bool | None
    """Whether it is missing in the embedding too."""
    agreement: float | None
    """Mean |cosine| of the flagged layers' own directions with what they share."""
    rounding: float | None
    """Energy along a direction that rounding puts back, over what a direction has; the coarsest of
    the tensors that write."""
    layers: tuple[LayerScan, ...]
    damage: tuple[str, ...]
    """What is wrong with the folder, one sentence each."""
    notes: tuple[str, ...]
    panel: str
    n_panel: int
    thresholds: dict[str, Threshold]
    false_positives: Rate
    base: Comparison | None
    """What `weights compare` says, where a base was given."""
