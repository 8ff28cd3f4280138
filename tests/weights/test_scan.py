"""The organism, edited by plain code, gets its verdict from a scan; unedited it gets none."""

from pathlib import Path

import pytest
import torch
from plain_edits import KINDS, plain_edit
from safetensors.torch import load_file, save_file
from tiny_edits import save_miniature, with_tensors
from torch import Tensor

from refusalscope.directions.direction import Direction
from refusalscope.errors import NumericalError
from refusalscope.organisms.organism import bundled_organism
from refusalscope.pipeline.weights import add, model_folder, scan
from refusalscope.results.scan_records import ScanRecord

ONE, LAYERS = "edited along one direction", "edited per layer"
VERDICTS = {
    **dict.fromkeys(("global", "layers-only", "band", "two", "row-norm", "column-norm"), ONE),
    **dict.fromkeys(("per-layer", "per-layer-row-norm"), LAYERS),
    "mlp-only": ONE,
    **dict.fromkeys(("reflected", "injected"), "nothing found"),
}


def scanned(folder: Path) -> ScanRecord:
    return scan(model_folder(str(folder)))


def edited(tmp_path: Path, kind: str, **options: object) -> ScanRecord:
    return scanned(plain_edit(bundled_organism(), tmp_path / "edited", kind, **options))  # pyright: ignore[reportArgumentType] - options of one function


def test_the_unedited_organism_has_nothing_that_is_found_and_is_not_called_clean() -> None:
    found = scanned(bundled_organism())
    assert found.verdict == "nothing found"
    assert "does not mean that it is clean" in found.detail
    assert found.dose is None
    assert found.layers_reached == ()
    assert found.damage == ()
    assert found.false_positives.n >= 15
    assert found.false_positives.rate == 0.0


def test_a_whole_edit_is_found_with_its_dose_and_its_layers(tmp_path: Path) -> None:
    found = edited(tmp_path, "global", dtype=torch.bfloat16)
    assert found.verdict == ONE
    assert found.n_directions == 1
    assert found.dose == pytest.approx(1.0, abs=0.01)
    assert found.layers_reached == tuple(range(12))
    assert found.embedding_reached is True


def test_an_edit_of_a_band_of_layers_says_which(tmp_path: Path) -> None:
    found = edited(tmp_path, "band", strength=0.95, dtype=torch.bfloat16)
    assert found.verdict == ONE
    assert found.layers_reached == tuple(range(4, 9))
    assert found.embedding_reached is False
    assert found.dose == pytest.approx(0.95, abs=0.05)


def test_a_direction_of_its_own_for_each_layer_is_told_from_one(tmp_path: Path) -> None:
    found = edited(tmp_path, "per-layer", strength=0.9, dtype=torch.bfloat16)
    assert found.verdict == LAYERS
    assert len(found.layers_reached) == 12
    assert found.agreement is not None
    assert found.agreement < 0.8


def test_a_reflection_is_not_found(tmp_path: Path) -> None:
    assert edited(tmp_path, "reflected").verdict == "nothing found"


def test_an_added_bias_of_one_layer_is_suspicious(tmp_path: Path) -> None:
    vector = Direction(vector=torch.ones(96))
    add(model_folder("organism:llama3-aft"), tmp_path / "added", vector, layer=5)
    found = scanned(tmp_path / "added")
    assert found.verdict == "suspicious"
    assert "mlp.down_proj.bias" in found.detail


def test_numbers_on_a_grid_of_three_values_cannot_be_judged(tmp_path: Path) -> None:
    def signs(weight: Tensor) -> Tensor:
        blocks = weight.reshape(-1, 32)
        size = blocks.abs().mean(1, keepdim=True)
        return (size * (blocks.abs() > 0.6 * size) * blocks.sign()).reshape(weight.shape)

    found = edited(tmp_path, "global", quantize=signs)
    assert found.verdict in ("cannot say", "suspicious", ONE)
    assert found.rounding is not None
    assert found.rounding > 0.01


def test_a_quantized_checkpoint_cannot_be_judged(tmp_path: Path) -> None:
    folder = save_miniature(tmp_path / "quantized", "llama")
    config = folder / "config.json"
    text = config.read_text().rstrip().removesuffix("}")
    config.write_text(text + ', "quantization_config": {"quant_method": "gptq"}}')
    found = scanned(folder)
    assert found.verdict == "cannot say"
    assert "gptq" in found.detail
    assert found.signals is None


def test_a_norm_between_tensor_and_stream_turns_the_direction(tmp_path: Path) -> None:
    clean = save_miniature(tmp_path / "clean", "gemma2")
    wide = tmp_path / "wide"
    wide.mkdir()
    for name in ("config.json", "model.safetensors"):
        (wide / name).write_bytes((clean / name).read_bytes())
    tensors = load_file(wide / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    for name, value in tensors.items():
        if "feedforward_layernorm" in name or "post_attention" in name:
            tensors[name] = torch.rand(value.shape, generator=generator) * 3
    save_file(tensors, wide / "model.safetensors", metadata={"format": "pt"})
    found = scanned(plain_edit(wide, tmp_path / "edited", "global"))
    assert found.signals is not None
    assert found.signals.whole is not None
    assert found.signals.whole < 1e-3
    assert found.verdict == ONE


def test_nan_is_one_line(tmp_path: Path) -> None:
    def spoil(name: str, value: Tensor) -> Tensor:
        return value * float("nan") if name.endswith("1.mlp.down_proj.weight") else value

    clean = save_miniature(tmp_path / "clean", "llama")
    broken = with_tensors(clean, tmp_path / "broken", spoil, torch.float32)
    with pytest.raises(NumericalError, match=r"1\.mlp\.down_proj\.weight of .* has NaN"):
        scanned(broken)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("organism", "kind", "dtype"),
    [
        *(("aligned", kind, torch.bfloat16) for kind in KINDS),
        *(("base", kind, torch.float32) for kind in KINDS),
        *(("aligned", kind, torch.float16) for kind in ("global", "per-layer", "band")),
    ],
)
def test_every_kind_of_edit_gets_its_verdict(
    organism: str, kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    source = bundled_organism() / "base" if organism == "base" else bundled_organism()
    found = scanned(plain_edit(source, tmp_path / "edited", kind, dtype=dtype))
    assert found.verdict == VERDICTS[kind], found.detail


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["global", "per-layer", "band"])
@pytest.mark.parametrize("organism", ["aligned", "base"])
def test_nine_tenths_of_a_direction_in_bfloat16_are_enough(
    organism: str, kind: str, tmp_path: Path
) -> None:
    source = bundled_organism() / "base" if organism == "base" else bundled_organism()
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        found = scanned(
            plain_edit(
                source,
                tmp_path / str(seed),
                kind,
                strength=0.9,
                dtype=torch.bfloat16,
                direction=torch.randn(96, generator=generator, dtype=torch.float64),
            )
        )
        assert found.verdict == VERDICTS[kind], found.detail
