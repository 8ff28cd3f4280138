"""An edited model run beside the original under hooks: whether the weights do what the hooks do."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from refusalscope.directions.direction import unit_direction
from refusalscope.errors import ModelLoadError, NumericalError
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.interventions.operators import ablate_direction
from refusalscope.models.anatomy import Anatomy, measure_anatomy
from refusalscope.models.chat_model import load_model, local_folder
from refusalscope.models.hooks import edit_outputs
from refusalscope.models.load_options import LoadOptions
from refusalscope.models.trace import random_tokens, record_trace
from refusalscope.organisms.organism import resolve_model
from refusalscope.results.edit_records import EDIT, Behaviour, EditRecord
from refusalscope.weights.checkpoint import FLOATS, open_checkpoint
from refusalscope.weights.checkpoint_plan import ModelFolder
from refusalscope.weights.original import open_original
from refusalscope.weights.proof import stream_leftovers
from refusalscope.weights.tensor_edit import Removal, reached_feeders
from refusalscope.weights.verify import read_edit, recorded_removal

_SHAPE = (4, 12)
_ABSOLUTE = 1e-4
_RELATIVE = 1e-5
_ROUNDINGS = 8.0
"""How many units of a 16-bit dtype's rounding the largest logit may be off."""


def measure_behaviour(folder: ModelFolder, *, base: str | None, seed: int) -> Behaviour:
    """Logits of the edited model against those of the original under the edit's hooks.

    Both are loaded, one after the other. Where norms lie between a tensor and the stream, the
    edit is not the same map as ablating the norm's output, and only the stream is compared.

    Raises:
        ModelLoadError: one of them cannot be loaded, or the original is another checkpoint.
        NumericalError: one of them has logits that are NaN or infinite.
    """
    record = read_edit(folder.folder)
    original = _load_original(folder, record, base)
    anatomy = measure_anatomy(original, seed=seed)
    tokens = random_tokens(original, seed=seed, shape=_SHAPE)
    plain = _logits(original, tokens)
    with _hooks(original, anatomy, record):
        hooked = _logits(original, tokens)
    del original
    edited = load_model(str(folder.folder), LoadOptions(trust_remote_code=folder.trust_remote_code))
    found = _logits(edited, tokens)
    difference = float((found - hooked).abs().max())
    tolerance = _tolerance(folder, float(hooked.abs().max()))
    return Behaviour(
        n_tokens=tokens.numel(),
        logit_difference=difference,
        logit_effect=float((hooked - plain).abs().max()),
        tolerance=tolerance,
        must_agree=record.operation == "add" or _is_same_map(anatomy, recorded_removal(record)),
        agrees=difference <= tolerance,
        stream_leftover=_stream_leftover(edited, tokens, record),
    )


def _load_original(folder: ModelFolder, record: EditRecord, base: str | None) -> PreTrainedModel:
    """The original; of one that only the record names, no code is run: a folder is no consent."""
    is_named = base is not None
    options = LoadOptions(
        revision=None if is_named else record.model.revision,
        trust_remote_code=folder.trust_remote_code and is_named,
    )
    source = resolve_model(base or record.model.source)
    open_original(local_folder(source, options.revision), record)
    try:
        return load_model(source, options)
    except ModelLoadError as error:
        if is_named or not folder.trust_remote_code:
            raise
        raise ModelLoadError(
            f"the original, which only {EDIT} names, cannot be loaded without code of its own "
            f"being run ({error}); if you trust it, name it with --base"
        ) from error


@contextmanager
def _hooks(model: PreTrainedModel, anatomy: Anatomy, record: EditRecord) -> Generator[None]:
    if record.addition is not None:
        vector = torch.tensor(record.basis[0], dtype=torch.float32)
        adds = Intervention(operator="add", vector=vector, layer=record.addition.layer)
        with intervene(model, anatomy, [adds] * _SHAPE[0]):
            yield
        return
    what = recorded_removal(record)
    units = [unit_direction(direction) for direction in what.basis]

    def edit(hidden: Tensor) -> Tensor:
        for unit in units:
            hidden = hidden.lerp(ablate_direction(hidden, unit), what.strength)
        return hidden

    reached = [w.module for w in anatomy.all_writers if what.reaches(w.layer)]
    with edit_outputs([(model.get_submodule(name), edit) for name in dict.fromkeys(reached)]):
        yield


def _is_same_map(anatomy: Anatomy, what: Removal) -> bool:
    return not any(feeder.norms for feeder in reached_feeders(anatomy, what))


def _tolerance(folder: ModelFolder, largest: float) -> float:
    """What rounding of the stored weights and of the sums may make of a logit."""
    checkpoint = open_checkpoint(folder.folder)
    dtypes = {stored.dtype for stored in checkpoint.tensors.values() if stored.dtype in FLOATS}
    eps = max(torch.finfo(FLOATS[dtype]).eps for dtype in dtypes)
    own = max(_ABSOLUTE, _RELATIVE * largest)
    return own if eps <= torch.finfo(torch.float32).eps else max(own, _ROUNDINGS * eps * largest)


def _stream_leftover(
    model: PreTrainedModel, tokens: Int[Tensor, "batch pos"], record: EditRecord
) -> float | None:
    """The largest component left in the stream, where all of it was to be removed."""
    if record.operation == "add" or record.strength != 1.0 or record.layers is not None:
        return None
    trace = record_trace(model, tokens, with_graph=False)
    return max(
        left
        for direction in recorded_removal(record).basis
        for left in stream_leftovers(trace, direction)
    )


@torch.inference_mode()
def _logits(
    model: PreTrainedModel, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos d_vocab"]:
    logits: Tensor = model(input_ids=tokens, use_cache=False).logits.float().cpu()
    if not bool(logits.isfinite().all()):
        raise NumericalError(
            f"{model.name_or_path} has logits that are NaN or infinite on random tokens, so that "
            "its behaviour cannot be compared; look for such numbers in its weights"
        )
    return logits
