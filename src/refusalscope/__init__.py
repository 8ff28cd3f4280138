"""Find, test and explain the direction that mediates refusal in a chat model.

    import refusalscope as rs

    model = rs.load("organism:llama3-aft")
    found = rs.find_direction(model)
    with found.direction.ablated(model):
        answers = model.answer(found.harmful[:4])

The method is that of Arditi et al. (2024), https://arxiv.org/abs/2406.11717. Importing this package
imports nothing heavy: each name is loaded when it is first asked for, torch with `load` and
whatever else needs a model. The names of `__all__` are the library; everything below
`refusalscope.` may change.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refusalscope.data.instruction import Instruction
    from refusalscope.errors import InputError, RefusalscopeError
    from refusalscope.library.direction import Direction
    from refusalscope.library.edit import Edit, orthogonalize
    from refusalscope.library.find import find_direction
    from refusalscope.library.found import FoundDirection
    from refusalscope.library.instructions import read
    from refusalscope.library.model import Model, load
    from refusalscope.library.monitor import GuardedAnswer, GuardedModel, Monitor
    from refusalscope.library.run import Run, open_run

    __version__: str

__all__ = [
    "Direction",
    "Edit",
    "FoundDirection",
    "GuardedAnswer",
    "GuardedModel",
    "InputError",
    "Instruction",
    "Model",
    "Monitor",
    "RefusalscopeError",
    "Run",
    "__version__",
    "find_direction",
    "load",
    "open_run",
    "orthogonalize",
    "read",
]

_HOMES = {
    "Direction": "library.direction",
    "Edit": "library.edit",
    "FoundDirection": "library.found",
    "GuardedAnswer": "library.monitor",
    "GuardedModel": "library.monitor",
    "InputError": "errors",
    "Instruction": "data.instruction",
    "Model": "library.model",
    "Monitor": "library.monitor",
    "RefusalscopeError": "errors",
    "Run": "library.run",
    "find_direction": "library.find",
    "load": "library.model",
    "open_run": "library.run",
    "orthogonalize": "library.edit",
    "read": "library.instructions",
}
"""The module of each name, below this package."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any of the names above
    if name == "__version__":
        return import_module("importlib.metadata").version(__name__)
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
