"""What a model of an architecture stores, found by saving a miniature."""

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from refusalscope.results.scratch import temporary_folder
from refusalscope.weights.checkpoint import open_checkpoint
from refusalscope.weights.stored_names import stored_parts


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureNames:
    """The names of a model's stored tensors."""

    stored: frozenset[str]
    embedding: str
    unembedding: str | None
    """That of a tied one too, where it is known."""
    is_tied: bool


def architecture_names(model: PreTrainedModel, *, tied_as: str | None = None) -> ArchitectureNames:
    """What `model.save_pretrained` stores.

    Args:
        tied_as: The stored name that the unembedding of a tied model has once it is untied.
    """
    embedding = _weight_name(model, model.get_input_embeddings())
    head = model.get_output_embeddings()
    unembedding = None if head is None else _weight_name(model, head)
    assert embedding is not None, "a language model has an embedding"
    is_tied = unembedding == embedding
    own = {embedding} if unembedding is None else {embedding, unembedding}
    parts = stored_parts(model, [(name, 0) for name in sorted(own)])
    with temporary_folder() as folder:
        model.save_pretrained(folder)
        stored = frozenset(open_checkpoint(folder).tensors)
    return ArchitectureNames(
        stored=stored,
        embedding=parts[embedding, 0][0].name,
        unembedding=(tied_as if is_tied or unembedding is None else parts[unembedding, 0][0].name),
        is_tied=is_tied,
    )


def _weight_name(model: PreTrainedModel, module: nn.Module) -> str | None:
    """The first name of a module's weight."""
    weight = getattr(module, "weight", None)
    return next((name for name, own in model.named_parameters() if own is weight), None)
