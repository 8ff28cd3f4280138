"""Control vectors as llama.cpp reads them.

The rules of its reader: a tensor `direction.N` with N >= 1, one axis, 32-bit floats, the same
length for all; it is added to what comes out of block N, counted from 0.
"""

from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader
from tiny_edits import load, logits, save_miniature
from torch import Tensor

from refusalscope.directions.direction import Direction
from refusalscope.errors import InputError, NumericalError, OutputError
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.anatomy import measure_anatomy
from refusalscope.models.hooks import edit_outputs
from refusalscope.weights.checkpoint_plan import ModelFolder
from refusalscope.weights.control_vector import export_control_vector, write_control_vector


def as_llama_cpp_reads_it(path: Path) -> dict[int, Tensor]:
    """Block to vector, refused where llama.cpp's reader refuses."""
    found: dict[int, Tensor] = {}
    for tensor in GGUFReader(path).tensors:
        prefix, _, number = tensor.name.partition(".")
        if prefix != "direction":
            continue
        assert int(number) >= 1, "invalid (zero) direction tensor layer index"
        assert tensor.tensor_type == GGMLQuantizationType.F32, "non-F32"
        assert len(tensor.shape) == 1, "non-1D"
        found[int(number)] = torch.tensor(tensor.data)
    assert found, "no direction tensors found"
    assert len({len(vector) for vector in found.values()}) == 1
    return found


def test_the_bytes_follow_the_readers_rules(tmp_path: Path) -> None:
    vector = torch.randn(64, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "v.gguf"
    name = write_control_vector(
        vector, path, layer=3, n_layers=4, model_type="llama", coefficient=-1.5
    )
    assert path.read_bytes()[:4] == b"GGUF"
    fields = {key: field.contents() for key, field in GGUFReader(path).fields.items()}
    assert fields["general.architecture"] == "controlvector"
    assert fields["controlvector.model_hint"] == "llama"
    assert fields["controlvector.layer_count"] == 4
    assert name == "direction.2"
    found = as_llama_cpp_reads_it(path)
    assert list(found) == [2]
    torch.testing.assert_close(found[2], -1.5 * vector)


@pytest.mark.parametrize("layer", [2, 3])
def test_added_after_its_block_it_is_the_papers_addition_before_the_layer(
    tmp_path: Path, layer: int
) -> None:
    source = save_miniature(tmp_path / "source", "llama")
    vector = torch.randn(64, generator=torch.Generator().manual_seed(0))
    direction = Direction(vector=vector, layer=layer)
    _, place = export_control_vector(ModelFolder(folder=source), tmp_path / "v.gguf", direction)
    assert place == layer
    model = load(source)
    anatomy = measure_anatomy(model, with_feeders=False)
    blocks = anatomy.layer_modules(model)
    added = as_llama_cpp_reads_it(tmp_path / "v.gguf")
    with edit_outputs([(blocks[n], lambda x, v=v: x + v) for n, v in added.items()]):
        by_llama_cpp = logits(model)
    paper = Intervention(operator="add", vector=vector, layer=layer)
    with intervene(model, anatomy, [paper] * 2):
        by_hooks = logits(model)
    assert (by_llama_cpp - by_hooks).abs().max() < 1e-6
    assert (by_llama_cpp - logits(model)).abs().max() > 0.05


@pytest.mark.parametrize("layer", [0, 1, 4])
def test_layers_that_llama_cpp_cannot_add_at_are_refused(tmp_path: Path, layer: int) -> None:
    with pytest.raises(InputError, match=f"layer is {layer}; .* layers 2 to 3 can be given"):
        write_control_vector(
            torch.ones(8), tmp_path / "v.gguf", layer=layer, n_layers=4, model_type="llama"
        )
    assert not (tmp_path / "v.gguf").exists()


def test_the_layer_must_be_known_and_the_width_that_of_the_model(tmp_path: Path) -> None:
    source = ModelFolder(folder=save_miniature(tmp_path / "source", "llama"))
    with pytest.raises(InputError, match="does not say its layer; give --layer"):
        export_control_vector(source, tmp_path / "v", Direction(vector=torch.ones(64)))
    with pytest.raises(NumericalError, match="has 32 components; the model's d_model is 64"):
        export_control_vector(source, tmp_path / "v", Direction(vector=torch.ones(32), layer=2))


def test_nothing_that_exists_is_overwritten_and_equal_vectors_have_equal_bytes(
    tmp_path: Path,
) -> None:
    for name in ("a", "b"):
        write_control_vector(
            torch.ones(8), tmp_path / name, layer=2, n_layers=4, model_type="llama"
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        write_control_vector(torch.ones(8), tmp_path / "a", layer=2, n_layers=4, model_type="llama")
