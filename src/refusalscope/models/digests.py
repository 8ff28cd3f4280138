"""Digests of a model's folder: which model a result is about."""

import re
from collections.abc import Mapping
from pathlib import Path

from refusalscope.models.adapters import ADAPTER_WEIGHTS, full_weights
from refusalscope.results.files import sha256_file, sha256_text

_NOT_SETTINGS = ("*.index.json", "edit.json", "hardening.json", "organism.json")
"""Say nothing of how the model answers that the weights do not say."""


def weights_digest(folder: Path) -> str:
    """One digest over all weight files but an adapter's."""
    return digest_of(weight_file_digests(folder))


def weight_file_digests(folder: Path) -> dict[str, str]:
    """sha256 of each weight file but an adapter's, by its name; each is read once."""
    return _digests(full_weights(folder))


def adapter_digest(folder: Path) -> str:
    """One digest over the weights of an adapter."""
    return digest_of(_digests([folder / ADAPTER_WEIGHTS]))


def settings_digest(folder: Path) -> str:
    """One digest over config, tokenizer and whatever else beside the weights decides an answer."""
    patterns = ("*.json", "*.model", "*.txt", "*.tiktoken", "*.jinja", "*.py")
    files = {file for pattern in patterns for file in folder.glob(pattern)}
    return digest_of(
        _digests(sorted(f for f in files if not any(f.match(name) for name in _NOT_SETTINGS)))
    )


def digest_of(digests: Mapping[str, str]) -> str:
    """One digest over those of files, by name in their order."""
    return sha256_text("\n".join(f"{name} {digest}" for name, digest in digests.items()))


def _digests(files: list[Path]) -> dict[str, str]:
    return {file.name: _sha256(file) for file in files}


def _sha256(file: Path) -> str:
    """A hub's blob is named by its own and needs no reading."""
    blob = file.resolve().name
    is_named = file.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", blob)
    return blob if is_named else sha256_file(file)
