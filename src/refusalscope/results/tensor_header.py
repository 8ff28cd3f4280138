"""The header of a safetensors file, read as it stands: nothing in it may be said twice."""

import json
from collections import Counter
from pathlib import Path
from typing import Any


def header_bytes(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and the place of its first tensor byte.

    Raises:
        ValueError: It is no plain file, or its header is no JSON object, names a tensor
            twice, or is longer than the file.
    """
    if not path.is_file():
        raise ValueError("it is no plain file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size - 8:
            raise ValueError(f"its header would be {length} bytes long")
        text = file.read(length).decode("utf-8")
    try:
        header = json.loads(text, object_pairs_hook=without_repeats)
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    return header, 8 + length


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object's values by key.

    Raises:
        ValueError: A key stands in it twice.
    """
    repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if repeated:
        raise ValueError(f"{repeated[0]} is named twice")
    return dict(pairs)
