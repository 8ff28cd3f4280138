"""Adapters in a model's folder: one rule for every command.

A folder with full weights of its own is those weights; an adapter that lies beside them is left
out, and that is said. A folder with nothing but an adapter is its base with the adapter merged in.
"""

import json
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from refusalscope.errors import MissingExtraError, ModelLoadError
from refusalscope.models.causes import told
from refusalscope.results.scratch import temporary_folder

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PATTERN = "adapter_*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the parts of a model lie."""

    weights: Path
    """The folder of its config and full weights."""
    source: str
    """What that folder is called in messages."""
    adapter: Path | None = None
    """The folder of an adapter that belongs to it."""
    warnings: tuple[str, ...] = ()


def origin_of(folder: Path, source: str, find: Callable[[str], Path]) -> Origin:
    """Where the full weights of a folder lie, and whether an adapter belongs to them.

    Args:
        find: From what an adapter calls its base to that base's folder.

    Raises:
        ModelLoadError: an adapter that names no base, or whose base is not there.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        return Origin(weights=folder, source=source)
    if (folder / "config.json").is_file() and full_weights(folder):
        return Origin(
            weights=folder,
            source=source,
            warnings=(
                f"{source} holds an adapter ({ADAPTER_CONFIG}) beside full weights; its own "
                f"weights are used, without the adapter",
            ),
        )
    base = _base(folder)
    beside = folder / base
    return Origin(weights=beside if beside.is_dir() else find(base), source=base, adapter=folder)


def full_weights(folder: Path) -> list[Path]:
    """The weight files of a folder that are no adapter's."""
    adapters = set(folder.glob(f"{_PATTERN}.safetensors"))
    return [path for path in sorted(folder.glob("*.safetensors")) if path not in adapters]


@contextmanager
def without_adapter(folder: Path) -> Generator[Path]:
    """The folder as transformers should see it: one with an adapter, in links without it.

    transformers loads an adapter that lies beside full weights on top of them.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        yield folder
        return
    with temporary_folder() as links:
        for path in folder.iterdir():
            if not path.match(_PATTERN):
                (links / path.name).symlink_to(path.resolve())
        yield links


def with_adapter(model: PreTrainedModel, folder: Path, source: str) -> PreTrainedModel:
    """A model with the adapter of a folder merged into its weights.

    Raises:
        MissingExtraError: PEFT is not installed.
        ModelLoadError: it is no LoRA adapter in safetensors, or none of this model.
    """
    if find_spec("peft") is None:
        raise MissingExtraError(f"{source} is an adapter, which", package="peft", extra="train")
    fields = _fields(folder)
    if fields.get("peft_type") != "LORA" or fields.get("megatron_config") is not None:
        raise ModelLoadError(
            f"{source} is an adapter of the kind {fields.get('peft_type')!r}; expected LORA, which "
            f"can be merged into the weights"
        )
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelLoadError(
            f"{source} has no {ADAPTER_WEIGHTS}; convert the adapter to safetensors first (pickled "
            f"weights are not loaded)"
        )
    import peft  # noqa: PLC0415 - an extra

    def as_ours(why: str, _error: BaseException) -> ModelLoadError:
        return ModelLoadError(
            f"the adapter {source} cannot be put on its base {fields['base_model_name_or_path']!r} "
            f"({why}); check that it belongs to it"
        )

    with told(as_ours), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what PEFT has not followed transformers in
        adapted: Any = peft.PeftModel.from_pretrained(model, folder, use_safetensors=True)
        return adapted.merge_and_unload()


def _base(folder: Path) -> str:
    base = _fields(folder).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelLoadError(
            f"{folder / ADAPTER_CONFIG} names no base model (base_model_name_or_path is {base!r}); "
            f"give the folder of a whole model"
        )
    return base


def _fields(folder: Path) -> dict[str, Any]:
    path = folder / ADAPTER_CONFIG
    try:
        fields = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"{path} is not JSON ({error}); copy the adapter again") from error
    if not isinstance(fields, dict):
        raise ModelLoadError(f"{path} is no JSON object; copy the adapter again")
    return fields
