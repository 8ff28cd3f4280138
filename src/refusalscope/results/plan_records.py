"""What a run of a model would need: memory, work and place of each stage."""

from typing import Literal

from pydantic import Field

from refusalscope.results.record import Record


class PlannedRange(Record):
    """A count that depends on what the model does."""

    at_most: float
    typical: float | None
    """None where nothing was measured that says it."""


class PlannedMemory(Record):
    """Bytes at the moment at which a stage holds most: on the busiest device, or in the process."""

    weights: int
    process: int
    """Of the interpreter and the libraries, measured where the plan is made; 0 on an accelerator,
    where what the driver takes was not measured."""
    kept: int
    """What a stage holds from pass to pass: streams that are entered again, means."""
    cache: int
    """Keys and values."""
    activations: int
    logits: int
    """And what is made of them."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(
            (self.weights, self.process, self.kept, self.cache, self.activations, self.logits)
        )


class PlannedStage(Record):
    """One stage of a run, or an edit of a checkpoint."""

    name: str
    memory: PlannedMemory
    total: int
    """Bytes at the peak."""
    passes: PlannedRange | None
    """Rows that are run through the model: a prompt under one intervention is one."""
    tokens: PlannedRange | None
    """Tokens of these rows, those that are written among them."""
    flops: PlannedRange | None
    seconds: PlannedRange | None
    """None unless the speed of a device is given."""
    halvings: int = Field(ge=0)
    """How often batches must be halved to fit."""
    fits: bool
    where: str


class PlannedModel(Record):
    """What is planned for."""

    name: str
    architecture: str
    dtype: str
    n_parameters: int
    n_active: int | None
    """Parameters that a token is multiplied with."""
    weight_bytes: int
    cache_bytes_per_token: int
    n_layers: int
    d_model: int
    d_vocab: int


class PlannedMachine(Record):
    """Where it is to run."""

    kind: Literal["cpu", "accelerators"]
    n_devices: int
    device_memory: int | None
    """Bytes of each; None where the system does not say."""


class Plan(Record):
    """A run on a machine, counted and not run."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    model: PlannedModel
    machine: PlannedMachine
    stages: tuple[PlannedStage, ...]
    assumptions: tuple[str, ...]
