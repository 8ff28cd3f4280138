"""What tools save in another form is the same model: no form changes a verdict of `compare`."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny_edits import edit, random_vector, save_miniature, stored_tensors
from torch import Tensor

from refusalscope.directions.direction import Direction
from refusalscope.errors import ModelLoadError
from refusalscope.models.miniature import build_miniature, miniature_config
from refusalscope.results.compare_records import Comparison
from refusalscope.weights.checkpoint_plan import ModelFolder
from refusalscope.weights.compare import compare_checkpoints

Tensors = dict[str, Tensor]
Form = Callable[[Tensors], Tensors]
ONE = "low-rank edit along one direction in the residual writers"


def compared(base: Path, edited: Path, **options: Any) -> Comparison:
    folders = (ModelFolder(folder=folder) for folder in (base, edited))
    return compare_checkpoints(*folders, **options)


def save(tensors: Tensors, source: Path, target: Path, **config: Any) -> Path:
    """A folder with the config of `source`, changed, and these tensors."""
    target.mkdir()
    text = json.loads((source / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**text, **config}))
    contiguous = {name: value.clone().contiguous() for name, value in tensors.items()}
    save_file(contiguous, target / "model.safetensors", metadata={"format": "pt"})
    return target


def prefixed(tensors: Tensors, *, prefix: str) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}


def without_model(tensors: Tensors) -> Tensors:
    return {name.removeprefix("model."): value for name, value in tensors.items()}


def language_model(tensors: Tensors) -> Tensors:
    return {
        name.replace("model.", "model.language_model.", 1): value for name, value in tensors.items()
    }


def compiled_layers(tensors: Tensors) -> Tensors:
    return {name.replace(".mlp.", "._orig_mod.mlp."): value for name, value in tensors.items()}


def with_buffers(tensors: Tensors) -> Tensors:
    mask = torch.ones(1, 1, 8, 8).tril()
    return {
        **tensors,
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
        "model.layers.1.self_attn.rotary_emb.inv_freq": torch.ones(8),
        "model.layers.0.self_attn.bias": mask.bool(),
        "model.layers.0.self_attn.masked_bias": torch.tensor(-1e4),
        "model.position_ids": torch.arange(8),
    }


def value_head(tensors: Tensors) -> Tensors:
    return {**tensors, "v_head.summary.weight": torch.ones(1, 64)}


def vision(tensors: Tensors) -> Tensors:
    return {**tensors, "vision_tower.layers.0.mlp.down_proj.weight": torch.ones(64, 8)}


def fused(tensors: Tensors) -> Tensors:
    found = dict(tensors)
    for layer in range(4):
        at = f"model.layers.{layer}"
        qkv = [found.pop(f"{at}.self_attn.{x}_proj.weight") for x in "qkv"]
        found[f"{at}.self_attn.qkv_proj.weight"] = torch.cat(qkv)
        both = [found.pop(f"{at}.mlp.{x}_proj.weight") for x in ("gate", "up")]
        found[f"{at}.mlp.gate_up_proj.weight"] = torch.cat(both)
    return found


def padded(tensors: Tensors) -> Tensors:
    rows = torch.randn(20, 64, generator=torch.Generator().manual_seed(9))
    names = ("model.embed_tokens.weight", "lm_head.weight")
    return {n: torch.cat([v, rows]) if n in names else v for n, v in tensors.items()}


def as_float64(tensors: Tensors) -> Tensors:
    return {name: value.double() for name, value in tensors.items()}


FORMS: dict[str, tuple[Form, str]] = {
    "module": (partial(prefixed, prefix="module."), "names in"),
    "_orig_mod": (partial(prefixed, prefix="_orig_mod."), "names in"),
    "base_model.model": (partial(prefixed, prefix="base_model.model."), "names in"),
    "transformer": (partial(prefixed, prefix="transformer."), "names in"),
    "language_model": (partial(prefixed, prefix="language_model."), "names in"),
    "model.language_model": (language_model, "names in"),
    "no prefix": (without_model, "names in"),
    "compiled layers": (compiled_layers, "names in"),
    "buffers": (with_buffers, "5 buffers (model.layers.0.self_attn.bias, ...): not compared"),
    "prefix and buffers": (
        lambda tensors: prefixed(with_buffers(tensors), prefix="module."),
        "5 buffers",
    ),
    "a value head": (value_head, "no part of the model, not compared"),
    "a vision tower": (vision, "no part of the model, not compared"),
    "fused": (fused, "fused in one, in parts in the other"),
    "fused, without a prefix": (lambda t: without_model(fused(t)), "fused in one"),
    "a padded vocabulary": (padded, "vocabulary has 3"),
    "float64": (as_float64, "stored as F32 and F64"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and an edit of it."""
    folder = tmp_path_factory.mktemp("forms")
    source = save_miniature(folder / "source", "llama")
    edit(source, folder / "edited", strength=0.7)
    return source, folder / "edited"


@pytest.fixture(scope="module")
def plain(folders: tuple[Path, Path]) -> Comparison:
    return compared(*folders, direction=Direction(vector=random_vector()))


def require_same(found: Comparison, plain: Comparison, note: str) -> None:
    names = ("verdict", "n_changed", "n_writing", "n_writing_changed", "n_tensors", "coverage")
    assert {n: getattr(found, n) for n in names} == {n: getattr(plain, n) for n in names}, found
    for name in ("strength", "leftover", "agreement", "cosine", "relative"):
        assert getattr(found, name) == pytest.approx(getattr(plain, name), abs=0.02), name
    assert any(note in one for one in found.notes), found.notes


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_either_checkpoint_changes_no_verdict(
    tmp_path: Path, folders: tuple[Path, Path], plain: Comparison, form: str
) -> None:
    source, edited = folders
    assert (plain.verdict, plain.notes) == (ONE, ())
    change, note = FORMS[form]
    other = save(change(stored_tensors(edited)), edited, tmp_path / "edited")
    direction = Direction(vector=random_vector())
    require_same(compared(source, other, direction=direction), plain, note)
    base = save(change(stored_tensors(source)), source, tmp_path / "base")
    if form not in ("fused", "fused, without a prefix"):  # no architecture of that config is fused
        require_same(compared(base, edited, direction=direction), plain, note)
        if form != "a padded vocabulary":  # rows that only the padding has were not edited
            found = compared(base, other)
            assert (found.verdict, found.n_changed) == (ONE, plain.n_changed)
    found = compared(source, save(change(stored_tensors(source)), source, tmp_path / "same"))
    assert (found.verdict, found.n_changed) == ("identical", 0)


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tied") / "source"
    build_miniature(miniature_config("gemma"), seed=3).save_pretrained(folder)
    assert "lm_head.weight" not in stored_tensors(folder)
    return folder


@pytest.mark.parametrize("form", ["base", "edited", "both"])
def test_a_tied_tensor_may_be_stored_once_or_twice(tmp_path: Path, tied: Path, form: str) -> None:
    def twice(folder: Path, name: str, **config: Any) -> Path:
        tensors = stored_tensors(folder)
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
        return save(tensors, folder, tmp_path / name, **config)

    edit(tied, tmp_path / "target", untie=False)
    plain = compared(tied, tmp_path / "target")
    assert plain.verdict == ONE
    base = tied if form == "edited" else twice(tied, "base")
    edited = tmp_path / "target" if form == "base" else twice(tmp_path / "target", "twice")
    require_same(compared(base, edited), plain, "1 tied tensor (lm_head.weight): counted once")
    same = tied if form == "base" else twice(tied, "same")
    assert compared(base, same).verdict == "identical"


def test_a_tied_config_and_an_untied_one_may_hold_the_same_model(
    tmp_path: Path, tied: Path
) -> None:
    tensors = stored_tensors(tied)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    untied = save(tensors, tied, tmp_path / "untied", tie_word_embeddings=False)
    for one, other in ((tied, untied), (untied, tied)):
        found = compared(one, other)
        assert (found.verdict, found.untied) == ("identical", None), found.detail


def test_an_untied_unembedding_is_told_from_one_stored_twice(tmp_path: Path, tied: Path) -> None:
    record = edit(tied, tmp_path / "target")
    tensors = stored_tensors(tied)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    twice = save(tensors, tied, tmp_path / "twice")
    for base in (tied, twice):
        found = compared(base, tmp_path / "target")
        assert (found.verdict, found.untied) == (ONE, record.untied), found.detail


def test_experts_in_a_stack_are_those_one_by_one(tmp_path: Path) -> None:
    source = save_miniature(tmp_path / "source", "qwen3_moe")
    edit(source, tmp_path / "target")
    plain = compared(source, tmp_path / "target")

    def stacked(tensors: Tensors) -> Tensors:
        found = dict(tensors)
        layers = sorted({n.partition(".experts.")[0] for n in found if ".experts." in n})
        for at in layers:
            own = [n for n in found if n.startswith(f"{at}.experts.") and "down_proj" in n]
            down, both = [], []
            for e in range(len(own)):
                one = f"{at}.experts.{e}"
                down.append(found.pop(f"{one}.down_proj.weight"))
                pair = [found.pop(f"{one}.{x}_proj.weight") for x in ("gate", "up")]
                both.append(torch.cat(pair))
            found[f"{at}.experts.down_proj"] = torch.stack(down)
            found[f"{at}.experts.gate_up_proj"] = torch.stack(both)
        return found

    tensors = stacked(stored_tensors(tmp_path / "target"))
    assert len(tensors) < len(stored_tensors(source))
    other = save(tensors, tmp_path / "target", tmp_path / "stacked")
    require_same(compared(source, other), plain, "fused in one, in parts in the other")


def test_small_numbers_that_float16_cuts_are_no_difference(tmp_path: Path) -> None:
    source = save_miniature(tmp_path / "source", "llama", dtype=torch.bfloat16)
    tensors = {name: value * 1e-3 for name, value in stored_tensors(source).items()}
    base = save(tensors, source, tmp_path / "base")
    half = save({n: v.half() for n, v in tensors.items()}, source, tmp_path / "half")
    for one, other in ((base, half), (half, base)):
        found = compared(one, other)
        assert found.verdict == "identical", found.detail
        assert found.notes == ("stored as BF16 and F16: both were rounded to the coarser",)


def test_an_edit_is_found_in_a_padded_vocabulary_of_a_tied_model(
    tmp_path: Path, tied: Path
) -> None:
    edit(tied, tmp_path / "target", untie=False)
    tensors = stored_tensors(tmp_path / "target")
    name = "model.embed_tokens.weight"
    tensors[name] = torch.cat([tensors[name], torch.randn(4, 64)])
    found = compared(tied, save(tensors, tied, tmp_path / "padded"))
    assert (found.verdict, found.coverage) == (ONE, 1.0), found.detail


def deeper(folder: Path, source: Path) -> Path:
    tensors = stored_tensors(source)
    layer = {n.replace("layers.3.", "layers.4."): v for n, v in tensors.items() if "layers.3." in n}
    return save({**tensors, **layer}, source, folder, num_hidden_layers=5)


def with_adapter(folder: Path, source: Path) -> Path:
    name = "model.layers.0.mlp.up_proj.lora_A.weight"
    return save({**stored_tensors(source), name: torch.ones(2, 64)}, source, folder)


def without_head(folder: Path, source: Path) -> Path:
    tensors = stored_tensors(source)
    del tensors["lm_head.weight"]
    return save(tensors, source, folder)


def mixed_up(folder: Path, source: Path) -> Path:
    tensors = stored_tensors(source)
    tensors["module.lm_head.weight"] = tensors["lm_head.weight"]
    tensors["model.lm_head.weight"] = tensors.pop("lm_head.weight") * 2
    return save(tensors, source, folder)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (deeper, "model.layers.4"),
        (with_adapter, "holds an adapter that is not merged"),
        (without_head, "lm_head.weight of"),
        (mixed_up, "lm_head.weight of"),
    ],
)
def test_what_differs_in_more_than_form_is_not_comparable(
    tmp_path: Path, folders: tuple[Path, Path], make: Callable[[Path, Path], Path], why: str
) -> None:
    found = compared(folders[0], make(tmp_path / "other", folders[0]))
    assert found.verdict == "not comparable"
    assert why in found.detail


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("pytorch_model.bin", "pytorch_model.bin is pickled: convert it to safetensors first"),
        ("adapter_model.safetensors", "an adapter alone: merge it into its base first"),
    ],
)
def test_other_files_of_weights_are_refused_with_a_line(
    tmp_path: Path, folders: tuple[Path, Path], name: str, why: str
) -> None:
    shutil.copytree(folders[0], tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").rename(tmp_path / "other" / name)
    with pytest.raises(ModelLoadError, match=why):
        compared(folders[0], tmp_path / "other")


def test_another_number_of_files_is_named(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    many = save_miniature(tmp_path / "many", "llama", shard="100KB")
    found = compared(folders[0], many)
    assert found.verdict == "identical"
    assert "the tensors are in 1 files" in found.notes[0]
