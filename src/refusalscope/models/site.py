"""What kind of output a residual writer has: attention, mixer (state space and kin) or MLP.

A label for people, read from class and module names; which modules are writers never depends on it.
"""

import re
from collections.abc import Sequence

import torch

from refusalscope.models.trace import Call

_MIXER = re.compile(
    r"mamba|\bssm\b|delta|linear_?attn|linear_?attention|lightning|recurrent|rglru|short_?conv|"
    r"\bmixer\b|\bconv\b|time_?mix|kda|mlstm|gatedlinear",
    re.IGNORECASE,
)
_ATTENTION = re.compile(r"attn|attention|mla\b", re.IGNORECASE)
_MLP = re.compile(r"mlp|moe|expert|feed_?forward|ffn?\b|ffw|fc\d?\b|dense|per_layer", re.IGNORECASE)


def site_of(call: Call, scope: Sequence[Call], *, prefix: str, family: str) -> str:
    """`attn_out`, `mixer_out`, `mlp_out`, or `block_out` where no name tells.

    A norm is labelled by the module that feeds it.

    Args:
        prefix: Qualified name of the layer, which says nothing about the module.
        family: Class name of the model; what a module's class name shares with it says nothing
            either (RecurrentGemmaAttention is attention).
    """
    for source in (*_sources(call, scope), call):
        kind = _without_common_start(type(source.module).__name__, family)
        for words in (kind, source.name_under(prefix).removeprefix(prefix)):
            if _MIXER.search(words):
                return "mixer_out"
            if _ATTENTION.search(words):
                return "attn_out"
            if _MLP.search(words):
                return "mlp_out"
    return "block_out"


def _without_common_start(word: str, other: str) -> str:
    shared = 0
    while word[shared : shared + 1] and word[shared : shared + 1] == other[shared : shared + 1]:
        shared += 1
    return word[shared:]


def _sources(call: Call, scope: Sequence[Call]) -> list[Call]:
    """The outermost calls that returned what `call` was given, where it only passes that on."""
    if next(call.module.children(), None) is not None:
        return []
    given = [value.detach() for value in call.inputs.values()]
    outputs = [
        other
        for other in scope
        if other.end < call.start
        and other.output is not None
        and any(
            value.numel() == other.output.numel()
            and torch.equal(value.flatten(), other.output.detach().flatten())
            for value in given
        )
    ]
    return sorted(outputs, key=lambda other: other.start)
