"""How a model is loaded, as plain values: commands show their options without importing torch."""

from dataclasses import dataclass
from typing import Literal

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How a model is loaded."""

    revision: str | None = None
    dtype: Dtype = "auto"
    """`auto` is float32 on a CPU and the checkpoint's own type on an accelerator."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda:1`, ..., or `spread` to lay the layers over all accelerators."""
    trust_remote_code: bool = False
    system: str | None = None
    template: Literal["model", "paper"] = "model"
    answer_prefix: str = ""
    """What every answer begins with; it belongs to the prompt then. May spell control tokens."""
