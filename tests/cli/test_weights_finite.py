"""Options of `weights` that would make NaN, infinity or nothing end in one line."""

from pathlib import Path

import pytest
from tiny_edits import random_vector, save_miniature
from tiny_runs import Caller, contents

from refusalscope.directions.direction import Direction, save_direction


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save_miniature(tmp_path / "source", "llama")


@pytest.fixture
def direction(tmp_path: Path) -> Path:
    path = tmp_path / "r.safetensors"
    save_direction(Direction(vector=random_vector(), layer=2), path)
    return path


COEFFICIENTS = ["nan", "inf", "-inf", "1e39", "1e308", "0"]


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("command", ["add", "control-vector"])
def test_a_coefficient_that_makes_no_numbers_is_one_line(
    refusalscope: Caller,
    tmp_path: Path,
    source: Path,
    direction: Path,
    *,
    command: str,
    coefficient: str,
) -> None:
    before = contents(tmp_path)
    given = ("weights", command, source, "--direction", direction, "--out", tmp_path / "out")
    line = refusalscope(*given, f"--coefficient={coefficient}").line
    assert "coefficient" in line
    assert contents(tmp_path) == before


@pytest.mark.parametrize("strength", ["nan", "inf", "-inf", "1e39", "-1e39", "1e308", "1e30"])
@pytest.mark.parametrize("command", ["orthogonalize", "adapter"])
def test_a_strength_that_makes_no_numbers_is_one_line(
    refusalscope: Caller,
    tmp_path: Path,
    source: Path,
    direction: Path,
    *,
    command: str,
    strength: str,
) -> None:
    before = contents(tmp_path)
    given = ("weights", command, source, "--direction", direction, "--out", tmp_path / "out")
    line = refusalscope(*given, f"--strength={strength}").line
    assert "strength is " in line or "'--strength': " in line
    assert contents(tmp_path) == before


LONG = "a" * 300


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--out", LONG), "cannot be written"),
        (("--out", "out", "--direction", LONG), "does not exist"),
        (("--out", "out", "--layers", "9" * 5000), "--layers is"),
        (("--out", "out", "--layers", "0-99999999999"), "expected FIRST-LAST"),
    ],
)
def test_names_and_numbers_that_are_too_long_are_one_line(
    refusalscope: Caller,
    tmp_path: Path,
    source: Path,
    direction: Path,
    *,
    options: tuple[str, ...],
    why: str,
) -> None:
    before = contents(tmp_path)
    given = ("weights", "orthogonalize", source, "--direction", direction, *options)
    assert why in refusalscope(*given).line
    assert contents(tmp_path) == before
