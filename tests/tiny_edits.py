"""Checkpoints of miniatures, edited: what tests of weights share."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from refusalscope.directions.direction import Direction
from refusalscope.models.miniature import build_miniature, miniature_config
from refusalscope.results.edit_records import EditRecord
from refusalscope.weights.checkpoint import open_checkpoint
from refusalscope.weights.checkpoint_plan import ModelFolder
from refusalscope.weights.stream import orthogonalize_checkpoint

INDEX = "model.safetensors.index.json"


def miniature(model_type: str) -> PreTrainedModel:
    return build_miniature(miniature_config(model_type), seed=3)


def save_miniature(
    folder: Path, model_type: str, *, shard: str = "5GB", dtype: torch.dtype = torch.float32
) -> Path:
    model: Any = miniature(model_type)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    return folder


def random_vector(seed: int = 0, *, size: int = 64) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def edit(source: Path, target: Path, *vectors: Tensor, **options: Any) -> EditRecord:
    """The streamed edit along one random direction, or along those that are given."""
    given = [Direction(vector=vector) for vector in vectors or (random_vector(),)]
    return orthogonalize_checkpoint(ModelFolder(folder=source), target, given, **options)


def stored_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a folder."""
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


def raw_bytes(folder: Path, name: str) -> bytes:
    place = open_checkpoint(folder).stored(name)
    with (folder / place.shard).open("rb") as file:
        file.seek(place.start)
        return file.read(place.end - place.start)


def with_tensors(
    source: Path, target: Path, change: Callable[[str, Tensor], Tensor], dtype: torch.dtype
) -> Path:
    """A copy of a single-file checkpoint with its tensors changed and stored in `dtype`."""
    target.mkdir()
    shutil.copy(source / "config.json", target)
    tensors = load_file(source / "model.safetensors")
    changed = {name: change(name, value).to(dtype).contiguous() for name, value in tensors.items()}
    save_file(changed, target / "model.safetensors", metadata={"format": "pt"})
    return target


def load(folder: Path) -> PreTrainedModel:
    """Load with plain transformers, in float32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def tokens(seed: int = 5) -> Tensor:
    return torch.randint(3, 300, (2, 9), generator=torch.Generator().manual_seed(seed))


def logits(model: Any, ids: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return model(input_ids=tokens() if ids is None else ids, use_cache=False).logits


def change_index(folder: Path, change: Callable[[dict[str, str]], object]) -> None:
    """Change the weight map of a sharded checkpoint."""
    path = folder / INDEX
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))
