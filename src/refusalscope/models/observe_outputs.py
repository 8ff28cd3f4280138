"""Reading what leaves modules, nothing changed."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from refusalscope.models.hooks import Edit, Observe, edit_outputs


@contextmanager
def observe_outputs(observers: Sequence[tuple[nn.Module, Observe]]) -> Generator[None]:
    """Show each observer the hidden states that leave its module."""

    def unchanged(observe: Observe) -> Edit:
        def edit(hidden: Tensor) -> Tensor:
            observe(hidden)
            return hidden

        return edit

    with edit_outputs([(module, unchanged(observe)) for module, observe in observers]):
        yield
