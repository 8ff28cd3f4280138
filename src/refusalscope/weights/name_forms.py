"""The names that tools give one and the same tensor, told to be the same.

Wrappers of a model (torch.compile, DataParallel, FSDP, PEFT) and models that hold a language model
beside others put words before its names, or into them; saving a part of a model drops some.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from refusalscope.weights.checkpoint import Checkpoint, StoredTensor

_LEADING = ("model", "language_model", "text_model", "transformer", "base_model", "module")
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "base_layer")
_BUFFERS = (
    *("inv_freq", "original_inv_freq", "cos_cached", "sin_cached", "position_ids"),
    *("masked_bias", "causal_mask", "attention_mask"),
)
"""What models compute anew when they are built; older ones stored it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    """A checkpoint with its tensors under the names that were asked for."""

    checkpoint: Checkpoint
    example: tuple[str, str] | None
    """One of the tensors that have another name: as it is stored, and as it is called."""
    number: int


def is_buffer(name: str, stored: StoredTensor, known: frozenset[str]) -> bool:
    """Whether a stored tensor is no weight but something that a model computes from its config."""
    leaf = name.rpartition(".")[2]
    is_mask = leaf == "bias" and len(stored.shape) >= 3 and name not in known
    return leaf in _BUFFERS or is_mask


def renamed(checkpoint: Checkpoint, wanted: Iterable[str], *, prefix: str) -> Renamed:
    """The tensors of a checkpoint, called as in `wanted` where only prefixes and wrappers differ.

    A name that two tensors could have is left as it is.

    Args:
        prefix: The architecture's own word for what is below its head.
    """
    leading = (*_LEADING, prefix)
    free = list(checkpoint.tensors)
    named = set(free)
    sought = _unique({name: _core(name, leading) for name in wanted if name not in named})
    held = set(wanted)
    cores = _unique({name: _core(name, leading) for name in free if name not in held})
    new = {cores[core]: name for core, name in sought.items() if core in cores}
    heads = Counter(_heads(stored, name) for stored, name in new.items())
    for name in free:
        if name in held or name in new:
            continue
        for (old_head, new_head), _ in heads.most_common():
            called = new_head + name.removeprefix(old_head)
            if name.startswith(old_head) and called not in named and called not in new.values():
                new[name] = called
                break
    tensors = {new.get(name, name): stored for name, stored in checkpoint.tensors.items()}
    example = next(((old, called) for old, called in new.items() if old != called), None)
    return Renamed(
        checkpoint=replace(
            checkpoint,
            tensors={name: replace(stored, name=name) for name, stored in tensors.items()},
        ),
        example=example,
        number=sum(old != called for old, called in new.items()),
    )


def _core(name: str, leading: tuple[str, ...]) -> str:
    """A name without what wrappers and prefixes add."""
    words = [word for word in name.split(".") if word not in _WRAPPERS]
    while len(words) > 2 and words[0] in leading:
        words = words[1:]
    return ".".join(words)


def _unique(cores: dict[str, str]) -> dict[str, str]:
    """The name of each core that is that of one name alone."""
    counts = Counter(cores.values())
    return {core: name for name, core in cores.items() if counts[core] == 1}


def _heads(stored: str, called: str) -> tuple[str, str]:
    """What stands before the common end of two names."""
    left, right = stored.split("."), called.split(".")
    same = 0
    while same < min(len(left), len(right)) and left[-1 - same] == right[-1 - same]:
        same += 1
    heads = (left[: len(left) - same], right[: len(right) - same])
    old, new = (".".join([*words, ""]) if words else "" for words in heads)
    return old, new
