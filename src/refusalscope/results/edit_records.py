"""edit.json: what was done to a checkpoint, what is left, and what is needed to check it."""

from typing import ClassVar, Literal

from pydantic import Field

from refusalscope.results.rate_change import RateChange
from refusalscope.results.record import Record
from refusalscope.results.records import Rate

EDIT = "edit.json"
EditVerdict = Literal["complete", "partial as asked", "incomplete", "altered", "not measured"]
"""complete: no tensor that writes can write along the direction. partial as asked: some can, by
strength or layers, and as much as was asked for. incomplete: more is left than was asked for.
altered: the files are not those that edit.json describes. not measured: what was to stay can only
be told beside the original, which is not at hand."""


class EditSource(Record):
    """Which checkpoint was edited."""

    source: str
    """Folder or hub id as given."""
    revision: str | None
    model_type: str
    architecture: str
    digests: dict[str, str]
    """SHA-256 by file; BLAKE3 of a file of tensors, see `weights.tensor_hash.digest_of`."""


class EditDirection(Record):
    """A direction as it was given."""

    origin: str
    norm: float
    model: str | None
    position: int | None
    layer: int | None


class EditedTensor(Record):
    """A stored tensor that writes to the residual stream, and what was taken out of it.

    Sizes are Frobenius norms of U W, with the directions (those that its norms would turn into the
    given ones) as the rows of U.
    """

    name: str
    axis: int
    """The axis that is d_model."""
    before: float
    """Size of the part along the directions in the old tensor."""
    leftover: float | None
    """Size in the new tensor over that in the old; None where the old had none."""
    rounding: float | None
    """What rounding to the tensor's dtype can leave, over the size in the old tensor."""
    digest_before: str
    """BLAKE3 of the bytes."""
    digest_after: str


class AnatomyProof(Record):
    """Proof on a miniature that the tensors are all that write; see `weights.proof`."""

    n_writers: int
    n_tensors: int
    coverage: float
    leftover: float
    tolerance: float
    seed: int


class BiasAddition(Record):
    """An addition to the stream that was written into a bias."""

    layer: int
    """The vector is added to resid_pre of this layer, at all positions."""
    coefficient: float
    tensor: str
    added: tuple[str, ...]
    """Tensors that the old checkpoint did not have; zero but for `tensor`."""
    option: str | None
    """The option of the config that gives the model its bias; None where it had one."""


class EditRecord(Record):
    """edit.json."""

    mend: ClassVar[str] = "copy it again from where the edit was made, or make the edit anew"
    schema_version: Literal[1] = Field(default=1, alias="schema")
    operation: Literal["orthogonalize", "add"]
    model: EditSource
    directions: tuple[EditDirection, ...]
    basis: tuple[tuple[float, ...], ...]
    """The directions made orthonormal; for an addition the vector itself, not normalised."""
    strength: float | None
    layers: tuple[int, int] | None
    """First and last decoder layer that was edited; None for all and the embedding."""
    addition: BiasAddition | None
    tensors: tuple[EditedTensor, ...]
    n_writing: int | None
    """How many stored tensors write to the residual stream."""
    n_tensors: int
    untied: str | None
    """The unembedding that was tied before and is a tensor of its own now."""
    coverage: float | None
    """Share of the tensors that write in which nothing is left beyond rounding."""
    leftover: float | None
    """Largest leftover of all tensors that write; 1.0 where one was not edited."""
    verdict: EditVerdict | None
    proof: AnatomyProof | None
    left_out: tuple[str, ...]
    """Files and folders of the source that were not copied."""
    digests: dict[str, str]
    """SHA-256 by file of what was written, BLAKE3 of files of tensors; not of edit.json itself."""
    versions: dict[str, str]
    earlier: tuple["EditRecord", ...] = ()
    """Edits that the checkpoint had before this one, the first one first."""


class AdapterRecord(Record):
    """edit.json beside an adapter."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    operation: Literal["adapter"] = "adapter"
    base: str
    revision: str | None
    model_type: str
    directions: tuple[EditDirection, ...]
    basis: tuple[tuple[float, ...], ...]
    strength: float
    layers: tuple[int, int] | None
    rank: int
    parameters: tuple[str, ...]
    """The parameters that the adapter changes."""
    n_writing: int
    is_tied: bool
    """Whether the base's unembedding is its embedding; then do not merge before untying."""
    n_bytes: int
    """Size of the adapter's tensors."""
    share_of_checkpoint: float
    digests: dict[str, str]
    versions: dict[str, str]


class TensorCheck(Record):
    """A stored tensor that writes, measured anew."""

    name: str
    leftover: float | None
    expected: float
    is_as_recorded: bool | None
    """None where it was not measured, for want of the original."""


class Behaviour(Record):
    """The edited model beside the hooked original, on random tokens."""

    n_tokens: int
    logit_difference: float
    """Largest difference of a logit between the edited model and the hooked original."""
    logit_effect: float
    """Largest difference that the hooks make."""
    tolerance: float
    must_agree: bool
    """False where norms lie between tensors and stream: then the edit is not the same map."""
    agrees: bool
    stream_leftover: float | None
    """Largest |r.x| / |r||x| in the residual stream of the edited model."""


class EditRefusal(Record):
    """How much the edited model and its original refuse of the same harmful instructions."""

    judge: str
    edited: Rate
    original: Rate
    change: RateChange
    """From the original, paired."""


class EditCheck(Record):
    """What `weights verify` finds."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    operation: Literal["orthogonalize", "add"]
    verdict: EditVerdict
    coverage: float | None
    leftover: float | None
    tensors: tuple[TensorCheck, ...]
    changed: tuple[str, ...]
    """Files whose digest is not the recorded one, or that are gone."""
    notes: tuple[str, ...] = ()
    """What was not measured, and why."""
    behaviour: Behaviour | None
    refusal: EditRefusal | None = None
    """None where it was not asked for, or no harmful instruction was at hand."""
