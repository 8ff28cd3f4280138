"""The anatomy of a model: its decoder layers and what writes to the residual stream, measured.

No list of attribute names: the layers are the modules that hand the stream on to each other, the
writers those whose outputs add up to what a layer adds, the feeders the tensors that write linearly
into a writer. What does not add up is an error, never a silent skip.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from refusalscope.errors import AnatomyError
from refusalscope.models.anatomy_exceptions import explained
from refusalscope.models.causes import told
from refusalscope.models.feeders import find_feeders
from refusalscope.models.layers import LayerCall, find_layers
from refusalscope.models.residual_writer import Feeder, ResidualWriter
from refusalscope.models.trace import Trace, quiet_state, random_tokens, record_trace
from refusalscope.models.writers import WriterCall, find_embedding_writers, find_layer_writers


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """Decoder layers and residual writers of one model."""

    layers: tuple[str, ...]
    """Qualified names of the decoder layers, in the order in which they run."""
    carries: tuple[float, ...]
    """What each layer multiplies the stream with before it adds to it; 1.0 but for a few models."""
    embedding: tuple[ResidualWriter, ...]
    """What writes the input of layer 0."""
    writers: tuple[ResidualWriter, ...]
    """What the layers add, by layer; the embedding not among them."""
    d_model: int
    is_tied: bool
    """Whether the unembedding is the same tensor as the token embedding."""
    final_norm: str | None
    """Qualified name of the norm after the last layer."""
    unembedding: str | None
    """Qualified name of the module that returns the logits."""

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.layers)

    @property
    def all_writers(self) -> tuple[ResidualWriter, ...]:
        """The embedding's writers, then those of the layers."""
        return (*self.embedding, *self.writers)

    @property
    def feeders(self) -> tuple[Feeder, ...]:
        """The tensors that write to the stream; one that several writers share comes once."""
        return tuple(dict.fromkeys(f for writer in self.all_writers for f in writer.feeders))

    def writers_of(self, layer: int | None) -> tuple[ResidualWriter, ...]:
        """The writers of one layer, or of the embedding (None)."""
        return tuple(writer for writer in self.all_writers if writer.layer == layer)

    def layer_modules(self, model: nn.Module) -> tuple[nn.Module, ...]:
        """The decoder layers of `model`, in order."""
        return tuple(model.get_submodule(name) for name in self.layers)


def measure_anatomy(model: nn.Module, *, seed: int = 0, with_feeders: bool = True) -> Anatomy:
    """Find the decoder layers and the residual writers of `model`.

    Costs one forward pass of twelve random tokens; with feeders the pass keeps its graph and one
    backward pass through each writer follows. Works in the model's own dtype and on its devices
    and leaves the model as it was.

    Args:
        with_feeders: Also find the tensors that feed each writer: needed to edit weights, not to
            intervene on activations.

    Raises:
        AnatomyError: The layers, the writers or their tensors do not add up.
    """
    try:
        with quiet_state(model, requires_grad=with_feeders):
            tokens = random_tokens(model, seed=seed, shape=(2, 6))
            with told(_cannot_run):
                trace = record_trace(model, tokens, with_graph=with_feeders)
            layers = find_layers(trace)
            start = find_embedding_writers(trace, layers[0])
            sums = [find_layer_writers(trace, layer, i) for i, layer in enumerate(layers)]
            found = [*start, *(writer for one in sums for writer in one.writers)]
            _check_calls(trace, found)
            writers = [_writer(trace, w, seed=seed, with_feeders=with_feeders) for w in found]
    except AnatomyError as error:
        raise AnatomyError(explained(str(error), model)) from error
    unembedding = _unembedding(model)
    return Anatomy(
        layers=tuple(layer.name for layer in layers),
        carries=tuple(one.carry for one in sums),
        embedding=tuple(writer for writer in writers if writer.layer is None),
        writers=tuple(writer for writer in writers if writer.layer is not None),
        d_model=layers[0].resid_pre.shape[-1],
        is_tied=unembedding is not None and _shares_weight(model, unembedding, start),
        final_norm=_final_norm(trace, layers[-1]),
        unembedding=unembedding,
    )


def _cannot_run(why: str, _error: BaseException) -> AnatomyError:
    return AnatomyError(
        f"a forward pass of a few tokens fails ({why}); the config does not fit the weights, or "
        f"the device lacks what the model needs"
    )


def _writer(trace: Trace, found: WriterCall, *, seed: int, with_feeders: bool) -> ResidualWriter:
    return ResidualWriter(
        layer=found.layer,
        site=found.site,
        module=found.module,
        coefficient=found.coefficient,
        feeders=find_feeders(trace, found, seed=seed) if with_feeders else (),
    )


def _check_calls(trace: Trace, writers: Iterable[WriterCall]) -> None:
    """A writer must write each time it runs, or a hook on it would change something else.

    The embedding is exempt: its place is the input of layer 0.
    """
    writes = Counter(writer.call.module for writer in writers)
    runs = Counter(call.module for call in trace.calls)
    for writer in writers:
        module = writer.call.module
        if writer.layer is not None and runs[module] != writes[module]:
            raise AnatomyError(
                f"{writer.module} runs {runs[module]} times in one forward pass and writes to the "
                f"residual stream {writes[module]} times: its output cannot be told apart"
            )


def _unembedding(model: nn.Module) -> str | None:
    """The module that transformers says returns the logits."""
    head = model.get_output_embeddings()  # pyright: ignore[reportCallIssue] transformers API
    return next((name for name, module in model.named_modules() if module is head), None)


def _shares_weight(model: nn.Module, unembedding: str, embedding: Iterable[WriterCall]) -> bool:
    weight = getattr(model.get_submodule(unembedding), "weight", None)
    before = {p for w in embedding for call in w.scope for p in call.module.parameters()}
    return weight in before


def _final_norm(trace: Trace, last: LayerCall) -> str | None:
    """The first module after the last layer that is given what it returned."""
    after = [call for call in trace.calls if call.start > last.call.end]
    for call in sorted(after, key=lambda call: call.start):
        for given in call.inputs.values():
            if given.shape == last.resid_post.shape and torch.equal(given, last.resid_post):
                return call.names[0]
    return None
