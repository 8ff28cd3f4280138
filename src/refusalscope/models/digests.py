"""Digests of a model's folder: which model a result is about."""

import re
from pathlib import Path

from refusalscope.models.adapters import ADAPTER_WEIGHTS, full_weights
from refusalscope.results.files import sha256_file, sha256_text

_NOT_SETTINGS = ("*.index.json", "edit.json", "organism.json")
"""Say nothing of how the model answers that the weights do not say."""


def weights_digest(folder: Path) -> str:
    """One digest over all weight files but an adapter's.

    Hub blobs are named by theirs and need no reading.
    """
    return _digest(full_weights(folder))


def adapter_digest(folder: Path) -> str:
    """One digest over the weights of an adapter."""
    return _digest([folder / ADAPTER_WEIGHTS])


def settings_digest(folder: Path) -> str:
    """One digest over config, tokenizer and whatever else beside the weights decides an answer."""
    patterns = ("*.json", "*.model", "*.txt", "*.tiktoken", "*.jinja", "*.py")
    files = {file for pattern in patterns for file in folder.glob(pattern)}
    return _digest(sorted(f for f in files if not any(f.match(name) for name in _NOT_SETTINGS)))


def file_digest(file: Path) -> str:
    """sha256 of a file; a hub's blob is named by its own and needs no reading."""
    blob = file.resolve().name
    is_named = file.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", blob)
    return blob if is_named else sha256_file(file)


def _digest(files: list[Path]) -> str:
    return sha256_text("\n".join(f"{file.name} {file_digest(file)}" for file in files))
