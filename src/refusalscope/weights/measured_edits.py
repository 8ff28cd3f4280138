"""What an edit in memory left along its directions: the edited model beside the original."""

from collections.abc import Sequence

import torch
from torch import nn

from refusalscope.models.anatomy import Anatomy
from refusalscope.weights.leftover import UNTOUCHED, Leftover, leftover_of
from refusalscope.weights.span import AlongSpan, Rows, measure_span, rows_in_memory
from refusalscope.weights.tensor_edit import TensorEdit


def leftovers_in_memory(
    before: nn.Module, after: nn.Module, anatomy: Anatomy, edits: Sequence[TensorEdit]
) -> list[Leftover]:
    """What is left in each tensor that writes to the residual stream, edited ones first.

    Args:
        before: The original, in memory too.
        anatomy: Of `after`, with feeders.
        edits: What `orthogonalize_model` returned.
    """
    found = []
    for edit in edits:
        old, new = (_along(model, edit) for model in (before, after))
        found.append(
            leftover_of(
                before=old.size,
                after=new.size,
                rounding=new.rounding,
                expected=abs(1.0 - edit.strength),
            )
        )
    n_writing = len({(feeder.parameter, feeder.axis) for feeder in anatomy.feeders})
    return [*found, *[UNTOUCHED] * (n_writing - len(found))]


def _along(model: nn.Module, edit: TensorEdit) -> AlongSpan:
    weight = model.get_parameter(edit.parameter).detach()
    rows = Rows.of(tuple(weight.shape), edit.axis)
    return measure_span(rows_in_memory(weight, rows), rows, torch.stack(edit.directions))
