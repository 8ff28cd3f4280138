"""Which module outputs add up to what a decoder layer adds to the residual stream."""

from dataclasses import dataclass

from refusalscope.errors import AnatomyError
from refusalscope.models.anatomy_search import MAX_TERMS
from refusalscope.models.layers import LayerCall
from refusalscope.models.module_sum import sum_of_modules
from refusalscope.models.site import site_of
from refusalscope.models.trace import Call, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterCall:
    """One run of a module whose output is added to the residual stream."""

    layer: int | None
    site: str
    module: str
    coefficient: float
    call: Call
    scope: tuple[Call, ...]
    """The calls among which its tensors are to be sought: those of its layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSum:
    """The writers of one layer, and what the layer multiplies the stream with."""

    writers: tuple[WriterCall, ...]
    carry: float


def find_layer_writers(trace: Trace, layer: LayerCall, index: int) -> LayerSum:
    """The sparsest set of outermost modules in a layer with y = carry * x + sum of c * output.

    Raises:
        AnatomyError: No sum of up to five module outputs equals what the layer adds, or the layer
            drops the stream that it is given.
    """
    inside = trace.between(layer.call.start, layer.call.end)
    total = sum_of_modules(inside, layer.resid_post, layer.resid_pre)
    what = f"layer {index} ({layer.name})"
    if total.found is None or not total.is_exact:
        raise AnatomyError(
            f"{what}: no sum of up to {MAX_TERMS} of its {len(total.candidates)} module outputs "
            f"equals what the layer adds to the stream ({total.misfit}); the layer probably adds "
            "or scales inside a module"
        )
    if abs(total.found.carry) < 1e-3:
        names = ", ".join(call.name_under(layer.name) for call, _ in total.terms)
        raise AnatomyError(
            f"{what} does not add to the stream that it is given, it replaces it with the output "
            f"of {names}: no residual writers"
        )
    family = type(trace.model).__name__
    writers = tuple(
        WriterCall(
            layer=index,
            site=site_of(call, inside, prefix=layer.name, family=family),
            module=call.name_under(layer.name),
            coefficient=coefficient,
            call=call,
            scope=inside,
        )
        for call, coefficient in total.terms
    )
    return LayerSum(writers=writers, carry=total.found.carry)


def find_embedding_writers(trace: Trace, first_layer: LayerCall) -> tuple[WriterCall, ...]:
    """The modules before layer 0 whose outputs add up to its input.

    Raises:
        AnatomyError: No such sum.
    """
    before = trace.between(0, first_layer.call.start)
    total = sum_of_modules(before, first_layer.resid_pre)
    if not total.is_exact:
        raise AnatomyError(
            f"the embedding: no sum of up to {MAX_TERMS} of {len(total.candidates)} module outputs "
            f"equals the input of {first_layer.name} ({total.misfit})"
        )
    return tuple(
        WriterCall(
            layer=None,
            site="embedding",
            module=call.names[0],
            coefficient=coefficient,
            call=call,
            scope=before,
        )
        for call, coefficient in total.terms
    )
