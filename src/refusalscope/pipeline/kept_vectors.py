"""Vectors that measurements keep beside a run, with what they were made with."""

import json
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from refusalscope.errors import RunFolderError
from refusalscope.results.files import write_file

_METADATA = "refusalscope"


def keep_vectors(
    path: Path, vectors: Float[Tensor, "*row d_model"], *, key: str, **facts: object
) -> None:
    """Write vectors whole or not at all.

    Args:
        key: Digest of all that they depend on.
        facts: Plain data beside them.
    """
    metadata = {_METADATA: json.dumps({"schema": 1, "key": key, **facts})}
    write_file(path, save({"vectors": vectors.contiguous()}, metadata=metadata))


def kept_vectors(
    path: Path, *, key: str
) -> tuple[Float[Tensor, "*row d_model"], dict[str, Any]] | None:
    """Vectors and facts that were kept with this very key; None where there are none.

    Raises:
        RunFolderError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})[_METADATA])
            vectors = file.get_tensor("vectors") if facts["key"] == key else None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{path} is no whole file of vectors ({error}); remove it and measure again"
        ) from error
    return None if vectors is None else (vectors, facts)
