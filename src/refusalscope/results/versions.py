"""The versions of the packages that a result depends on."""

import platform
from importlib.metadata import version

_PACKAGES = ("refusalscope", "torch", "transformers", "tokenizers", "safetensors", "numpy")


def package_versions() -> dict[str, str]:
    """Python and package versions, by name."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
