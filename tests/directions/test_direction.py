from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from refusalscope.directions.direction import (
    Direction,
    load_direction,
    random_direction,
    save_direction,
    unit_direction,
)
from refusalscope.errors import DirectionFileError, NumericalError


def test_a_saved_direction_comes_back_with_its_facts(tmp_path: Path) -> None:
    vector = torch.randn(8, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "direction.safetensors"
    save_direction(Direction(vector=vector, position=-2, layer=5, model="m"), path)
    found = load_direction(path, d_model=8)
    assert torch.equal(found.vector, vector)
    assert (found.position, found.layer, found.model) == (-2, 5, "m")
    assert list(load_file(path)) == ["direction"]


def test_the_same_direction_gives_the_same_bytes(tmp_path: Path) -> None:
    direction = Direction(vector=torch.arange(1.0, 5.0), position=-1, layer=2, model="m")
    for name in ("a", "b"):
        save_direction(direction, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_without_metadata_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    save_file({"direction": torch.ones(4)}, path)
    assert load_direction(path).layer is None


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"other": torch.ones(4)}, "no tensor 'direction'"),
        ({"direction": torch.ones(2, 2)}, r"shape \(2, 2\)"),
        ({"direction": torch.ones(5)}, r"expected a tensor 'direction' of shape \(4,\)"),
    ],
)
def test_what_is_no_direction_of_this_model_is_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], message: str
) -> None:
    path = tmp_path / "d.safetensors"
    save_file(tensors, path)
    with pytest.raises(DirectionFileError, match=message):
        load_direction(path, d_model=4)


def test_a_zero_direction_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "zero.safetensors"
    save_file({"direction": torch.zeros(4)}, path)
    with pytest.raises(NumericalError, match=r"norm 0\.0"):
        load_direction(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    save_file({"direction": torch.ones(400)}, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DirectionFileError, match="not a whole safetensors file"):
        load_direction(path)


@settings(deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e3))
def test_a_random_direction_has_the_norm_of_the_given_one_and_nothing_along_it(
    seed: int, scale: float
) -> None:
    like = scale * torch.ones(32)
    control = random_direction(like, seed=seed)
    assert control.norm().item() == pytest.approx(like.norm().item(), rel=1e-5)
    assert abs(torch.nn.functional.cosine_similarity(control, like, dim=0).item()) < 1e-6
    assert torch.equal(control, random_direction(like, seed=seed))
    assert not torch.equal(control, random_direction(like, seed=seed + 1))


def test_a_unit_direction_of_a_tiny_vector_is_exact() -> None:
    assert unit_direction(torch.full((4,), 1e-30)).tolist() == [0.5] * 4


def test_the_control_of_a_masked_direction_is_masked_too() -> None:
    like = torch.randn(32, generator=torch.Generator().manual_seed(0))
    whole = random_direction(like, seed=5)
    assert bool(whole.all())
    like[7] = 0
    control = random_direction(like, seed=5)
    assert control.nonzero().flatten().tolist() == [i for i in range(32) if i != 7]
    assert control.norm().item() == pytest.approx(like.norm().item(), rel=1e-5)
    assert abs((control @ like).item()) < 1e-3


def test_the_control_of_a_single_channel_lies_in_the_others() -> None:
    like = torch.zeros(8)
    like[2] = 3
    control = random_direction(like, seed=5)
    assert control[2] == 0
    assert control.norm().item() == pytest.approx(3, rel=1e-5)
