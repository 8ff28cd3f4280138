"""Edits of the organism of every kind get their verdict, in float32 and in bfloat16."""

import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_edits import edit, random_vector, save_miniature, with_tensors
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from refusalscope.directions.direction import Direction
from refusalscope.errors import NumericalError
from refusalscope.results.compare_records import Comparison
from refusalscope.weights.bias_addition import add_to_checkpoint
from refusalscope.weights.checkpoint_plan import ModelFolder
from refusalscope.weights.compare import compare_checkpoints
from refusalscope.weights.orthogonalize import orthogonalize

ONE = "low-rank edit along one direction in the residual writers"
ADAPTER = "low-rank adapter merged"
BROAD = "broad fine-tune"
Change = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of edit of the organism, and what is to be found."""

    verdict: str
    make: Callable[[Path, Tensor], Change]
    strength: float | None = None
    is_shared: bool = True


def axis_of(name: str) -> int | None:
    """The axis that is d_model, of tensors that write to the residual stream."""
    if "embed_tokens" in name:
        return 1
    return 0 if name.endswith(("o_proj.weight", "down_proj.weight")) else None


def in_writers(change: Callable[[str, Tensor, int], Tensor]) -> Change:
    def changed(name: str, weight: Tensor) -> Tensor:
        axis = axis_of(name)
        return weight if axis is None else change(name, weight, axis)

    return changed


def removed(direction: Tensor, *, strength: float = 1.0) -> Change:
    return in_writers(lambda _, w, axis: orthogonalize(w, direction, axis=axis, strength=strength))


def norm_preserving(direction: Tensor, *, columns: bool) -> Change:
    """Every column (what one neuron writes), or every row, at its old length again."""

    def change(_name: str, weight: Tensor, axis: int) -> Tensor:
        kept = axis if columns else 1 - axis
        edited = orthogonalize(weight, direction, axis=axis)
        scale = weight.norm(dim=kept, keepdim=True) / edited.norm(dim=kept, keepdim=True)
        return edited * scale.nan_to_num()

    return in_writers(change)


def per_layer(direction: Tensor) -> Change:
    def change(name: str, weight: Tensor, axis: int) -> Tensor:
        layer = 99 if "embed" in name else int(name.split(".")[2])
        return orthogonalize(weight, random_vector(layer, size=len(direction)), axis=axis)

    return in_writers(change)


def trained(model: nn.Module, *, steps: int, rate: float) -> None:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        ids = torch.randint(6, 1000, (4, 24), generator=generator)
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def lora(organism: Path, _direction: Tensor) -> Change:
    model = AutoModelForCausalLM.from_pretrained(organism, dtype=torch.float32)
    torch.manual_seed(0)
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT uses what transformers deprecates
        adapted = get_peft_model(model, config)
    trained(adapted, steps=4, rate=1e-2)
    merged = {n: p.detach().clone() for n, p in adapted.merge_and_unload().named_parameters()}
    return lambda name, _: merged[name]


def tuned(organism: Path, _direction: Tensor) -> Change:
    model = AutoModelForCausalLM.from_pretrained(organism, dtype=torch.float32)
    trained(model, steps=4, rate=1e-3)
    found = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    return lambda name, _: found[name]


KINDS: dict[str, Kind] = {
    "identical": Kind(verdict="identical", make=lambda *_: lambda _, w: w),
    "orthogonalized": Kind(verdict=ONE, make=lambda _, r: removed(r), strength=1.0),
    "strength 0.7": Kind(verdict=ONE, make=lambda _, r: removed(r, strength=0.7), strength=0.7),
    # What it scales up tilts the singular vector, by which it seems stronger than it is.
    "columns of old norm": Kind(verdict=ONE, make=lambda _, r: norm_preserving(r, columns=True)),
    "rows of old norm": Kind(
        verdict=ONE, make=lambda _, r: norm_preserving(r, columns=False), strength=1.0
    ),
    "a direction a layer": Kind(
        verdict=ONE, make=lambda _, r: per_layer(r), strength=1.0, is_shared=False
    ),
    "merged adapter": Kind(verdict=ADAPTER, make=lora),
    "full fine-tune": Kind(verdict=BROAD, make=tuned),
}


@pytest.fixture(scope="module")
def changes(organism: Path, refusal: Direction) -> dict[str, Change]:
    return {name: kind.make(organism, refusal.vector) for name, kind in KINDS.items()}


def compared(base: Path, edited: Path, direction: Direction | None = None) -> Comparison:
    folders = (ModelFolder(folder=folder) for folder in (base, edited))
    return compare_checkpoints(*folders, direction=direction)


def strength_by_svd(before: dict[str, Tensor], after: dict[str, Tensor]) -> float:
    """The median strength along the first singular vector of what changed, from whole matrices."""
    found: list[float] = []
    for name, weight in before.items():
        axis = axis_of(name)
        if axis is None:
            continue
        old, new = (w.double() if axis == 0 else w.double().T for w in (weight, after[name]))
        unit = torch.linalg.svd(new - old, full_matrices=False).U[:, 0]
        own = unit @ old
        found.append(-float(unit @ (new - old) @ own / own.square().sum()))
    return median(found)


DTYPES = {
    "float32": (torch.float32, torch.float32),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
    "edited in bfloat16": (torch.float32, torch.bfloat16),
}


@pytest.mark.parametrize(("name", "dtypes"), list(product(KINDS, DTYPES)))
def test_an_edit_of_the_organism_gets_its_verdict(
    tmp_path: Path,
    organism: Path,
    changes: dict[str, Change],
    refusal: Direction,
    *,
    name: str,
    dtypes: str,
) -> None:
    kind, (base_dtype, edited_dtype) = KINDS[name], DTYPES[dtypes]
    base = with_tensors(organism, tmp_path / "base", lambda _, w: w, base_dtype)
    # In bfloat16 the edit is made on what the base holds, as an edit of that file would be.
    before = load_file(base / "model.safetensors")

    def edited_tensor(name: str, original: Tensor) -> Tensor:
        change = changes_of(name, original) - original
        return before[name].float() + change if bool(change.any()) else before[name].float()

    changes_of = changes[name]
    edited = with_tensors(organism, tmp_path / "edited", edited_tensor, edited_dtype)
    found = compared(base, edited, refusal)
    assert found.verdict == kind.verdict, found.detail
    if kind.verdict == ONE:
        assert found.n_changed == found.n_writing == found.n_writing_changed == 25
        assert found.agreement is not None
        assert (found.agreement > 0.95) == kind.is_shared
        after = load_file(edited / "model.safetensors")
        assert found.strength == pytest.approx(strength_by_svd(before, after), abs=0.01)
        if kind.strength is not None:
            assert found.strength == pytest.approx(kind.strength, abs=0.06)
        assert found.cosine is not None
        assert (found.cosine > 0.99) == kind.is_shared
        assert all(row.stable_rank < 1.3 for row in found.tensors)
    else:
        assert (found.agreement, found.strength, found.cosine) == (None, None, None)
    if kind.verdict == ADAPTER:
        # Rounding to bfloat16 hides the rank of some tensors; where it is told it is right.
        assert {row.rank for row in found.tensors} - {None} == {16}


def test_coverage_and_leftover_are_those_of_the_recovered_direction(
    tmp_path: Path, organism: Path, refusal: Direction
) -> None:
    found: dict[float, Comparison] = {}
    for strength in (1.0, 0.7):
        target = tmp_path / str(strength)
        edit(organism, target, refusal.vector, strength=strength)
        found[strength] = compared(organism, target)
    assert found[1.0].coverage == 1.0
    leftover = found[1.0].leftover
    assert leftover is not None
    assert leftover < 1e-5
    assert (found[0.7].coverage, found[0.7].leftover) == (0.0, pytest.approx(0.3, abs=1e-4))
    assert "the same in all of them" in found[1.0].detail


def test_two_directions_are_counted(tmp_path: Path, organism: Path, refusal: Direction) -> None:
    edit(organism, tmp_path / "edited", refusal.vector, random_vector(size=len(refusal.vector)))
    found = compared(organism, tmp_path / "edited")
    assert found.verdict == "low-rank edit along 2 directions in the residual writers"
    assert found.coverage == 1.0


@pytest.mark.parametrize("model_type", ["gemma2", "mixtral", "gpt2", "bloom"])
def test_norms_experts_biases_and_untied_embeddings_are_seen_through(
    tmp_path: Path, model_type: str
) -> None:
    source = save_miniature(tmp_path / "source", model_type, shard="200KB")
    record = edit(source, tmp_path / "edited")
    found = compared(source, tmp_path / "edited", Direction(vector=random_vector()))
    assert found.verdict == ONE, found.detail
    assert (found.coverage, found.untied) == (1.0, record.untied)
    assert found.n_changed == len(record.tensors)
    assert found.cosine == pytest.approx(1.0, abs=2e-3)


def test_an_added_bias_is_an_edit_along_one_direction(
    tmp_path: Path, organism: Path, refusal: Direction
) -> None:
    add_to_checkpoint(ModelFolder(folder=organism), tmp_path / "edited", refusal)
    found = compared(organism, tmp_path / "edited", refusal)
    assert found.verdict == ONE
    assert "added to biases" in found.detail
    assert found.cosine == pytest.approx(1.0, abs=1e-4)


def test_an_edit_of_one_layer_is_reported_with_what_it_leaves(
    tmp_path: Path, organism: Path, refusal: Direction
) -> None:
    edit(organism, tmp_path / "edited", refusal.vector, layers=(4, 4))
    found = compared(organism, tmp_path / "edited")
    assert found.verdict == ONE
    assert (found.n_changed, found.leftover) == (2, pytest.approx(1.0, abs=0.01))
    assert found.coverage == pytest.approx(2 / 25)


def other_architecture(folder: Path) -> Path:
    return save_miniature(folder / "other", "gpt2")


def without_a_tensor(folder: Path) -> Path:
    tensors = load_file(folder / "edited" / "model.safetensors")
    tensors.pop("model.layers.3.mlp.up_proj.weight")
    save_file(tensors, folder / "edited" / "model.safetensors")
    return folder / "edited"


def of_another_shape(folder: Path) -> Path:
    tensors = load_file(folder / "edited" / "model.safetensors")
    tensors["lm_head.weight"] = torch.zeros(301, 64)
    save_file(tensors, folder / "edited" / "model.safetensors")
    return folder / "edited"


def with_nan(folder: Path) -> Path:
    tensors = load_file(folder / "edited" / "model.safetensors")
    tensors["lm_head.weight"][2, 3] = float("nan")
    save_file(tensors, folder / "edited" / "model.safetensors")
    return folder / "edited"


def quantized(folder: Path) -> Path:
    tensors = load_file(folder / "edited" / "model.safetensors")
    tensors["lm_head.weight"] = tensors["lm_head.weight"].to(torch.float8_e4m3fn)
    save_file(tensors, folder / "edited" / "model.safetensors")
    return folder / "edited"


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (other_architecture, r"\.weight of .* is not in"),
        (without_a_tensor, r"layers.3.mlp.up_proj.weight of .* is not in"),
        (of_another_shape, r"lm_head.weight has shape \(300, 64\) in .*, \(301, 64\) in the other"),
        (with_nan, "lm_head.weight has NaN or infinite values"),
        (quantized, "lm_head.weight is stored as F32 and F8_E4M3"),
    ],
)
def test_what_cannot_be_compared_is_said(
    tmp_path: Path, other: Callable[[Path], Path], why: str
) -> None:
    source = save_miniature(tmp_path / "source", "llama")
    shutil.copytree(source, tmp_path / "edited")
    found = compared(source, other(tmp_path))
    assert found.verdict == "not comparable"
    assert re.search(why, found.detail), found.detail


def test_sharding_does_not_matter(tmp_path: Path) -> None:
    one = save_miniature(tmp_path / "one", "llama")
    many = save_miniature(tmp_path / "many", "llama", shard="100KB")
    assert compared(one, many).verdict == "identical"


def test_a_direction_of_another_width_is_refused(tmp_path: Path) -> None:
    source = save_miniature(tmp_path / "source", "llama")
    with pytest.raises(NumericalError, match="direction has 32 components"):
        compared(source, source, Direction(vector=torch.ones(32)))
