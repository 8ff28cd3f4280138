"""What is wrong with a checkpoint's folder: missing files, weights that no config describes."""

import json
from pathlib import Path

from refusalscope.results.compare_records import Comparison
from refusalscope.weights.architecture_names import architecture_names
from refusalscope.weights.checkpoint import INDEX
from refusalscope.weights.checkpoint_plan import ExaminedCheckpoint
from refusalscope.weights.name_forms import is_buffer, renamed

_FEW = 0.9
"""Share of the tensors that write which a whole edit reaches, at least."""


def missing_shards(folder: Path) -> tuple[str, ...]:
    """Files that the index names and the folder has not."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        named = sorted({str(shard) for shard in index["weight_map"].values()})
        return tuple(
            f"{name}, which {INDEX} names, is missing"
            for name in named
            if Path(name).name == name and not (folder / name).is_file()
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ()


def undescribed(examined: ExaminedCheckpoint) -> tuple[str, ...]:
    """Weights that the config says nothing of, and those that it says should be there."""
    names = architecture_names(examined.miniature)
    prefix = examined.miniature.base_model_prefix
    tensors = renamed(examined.checkpoint, names.stored, prefix=prefix).checkpoint.tensors
    extra = sorted(
        name
        for name, stored in tensors.items()
        if name not in names.stored
        and name != names.unembedding
        and not is_buffer(name, stored, names.stored)
        and not (names.is_tied and name.endswith("lm_head.weight"))
    )
    absent = sorted(names.stored - set(tensors))
    found = []
    if extra:
        found.append(f"{_some(extra)} in the files, and the config describes no such weight")
    if absent:
        found.append(f"{_some(absent)} in the config's model, and no file has it")
    return tuple(found)


def partly_edited(found: Comparison) -> tuple[str, ...]:
    """Whether an edit along directions left out tensors that write."""
    n, changed = found.n_writing, found.n_writing_changed
    if not n or changed is None or found.agreement is None or changed >= _FEW * n:
        return ()
    return (f"the edit reached {changed} of the {n} tensors that write to the residual stream",)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 1} more are" if len(names) > 1 else " is"
    return f"{names[0]}{more}"
