"""A direction file is what its header says, said once."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from refusalscope.directions.direction import load_direction
from refusalscope.errors import DirectionFileError, RefusalscopeError


def write(path: Path, header: str | bytes, data: bytes = b"") -> Path:
    text = header.encode() if isinstance(header, str) else header
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype: str, shape: list[int], offsets: list[int]) -> str:
    return json.dumps({"dtype": dtype, "shape": shape, "data_offsets": offsets})


NUMBERS = struct.pack("<4f", 1, 2, 3, 4)
WHOLE = entry("F32", [4], [0, 16])
HEADERS: dict[str, tuple[str | bytes, bytes, str]] = {
    "named twice": (
        f'{{"direction":{WHOLE},"direction":{entry("F32", [4], [16, 32])}}}',
        NUMBERS * 2,
        "direction is named twice",
    ),
    "named twice at one place": (
        f'{{"direction":{WHOLE},"direction":{WHOLE}}}',
        NUMBERS,
        "direction is named twice",
    ),
    "metadata twice": (
        f'{{"__metadata__":{{"a":"1"}},"__metadata__":{{"a":"2"}},"direction":{WHOLE}}}',
        NUMBERS,
        "__metadata__ is named twice",
    ),
    "a shape twice": (
        '{"direction":{"dtype":"F32","shape":[2],"shape":[4],"data_offsets":[0,16]}}',
        NUMBERS,
        "shape is named twice",
    ),
    "offsets beyond the end": (
        f'{{"direction":{entry("F32", [8], [0, 32])}}}',
        NUMBERS,
        "is not a whole safetensors file",
    ),
    "offsets that do not fit the shape": (
        f'{{"direction":{entry("F32", [2], [0, 16])}}}',
        NUMBERS,
        "is not a whole safetensors file",
    ),
    "offsets backwards": (
        f'{{"direction":{entry("F32", [4], [16, 0])}}}',
        NUMBERS,
        "is not a whole safetensors file",
    ),
    "more bytes than it says": (
        f'{{"direction":{WHOLE}}}',
        NUMBERS * 2,
        "is not a whole safetensors file",
    ),
    "a negative shape": (
        f'{{"direction":{entry("F32", [-4], [0, 16])}}}',
        NUMBERS,
        "is not a whole safetensors file",
    ),
    "integers": (f'{{"direction":{entry("I32", [4], [0, 16])}}}', NUMBERS, "is stored as I32"),
    "booleans": (f'{{"direction":{entry("BOOL", [4], [0, 4])}}}', b"\1\1\0\1", "stored as BOOL"),
    "float8": (
        f'{{"direction":{entry("F8_E4M3", [4], [0, 4])}}}',
        b"\1\2\3\4",
        "is stored as F8_E4M3",
    ),
    "no axis": (f'{{"direction":{entry("F32", [], [0, 4])}}}', NUMBERS[:4], r"has shape \(\)"),
    "two axes": (f'{{"direction":{entry("F32", [2, 2], [0, 16])}}}', NUMBERS, "has shape"),
    "no numbers": (f'{{"direction":{entry("F32", [0], [0, 0])}}}', b"", "has norm 0.0"),
    "another name": (f'{{"vector":{WHOLE}}}', NUMBERS, "has no tensor 'direction'"),
    "a list": ("[]", b"", "is not a whole safetensors file"),
    "no JSON": ("{", b"", "is not a whole safetensors file"),
    "not UTF-8": (b"\xff\xfe{}", b"", "is not a whole safetensors file"),
    "deeply nested": (
        '{"direction":' + "[" * 100_000 + "]" * 100_000 + "}",
        b"",
        "is not a whole safetensors file",
    ),
    "no direction in it but a number": ('{"direction":4}', b"", "is not a whole safetensors file"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_lies_is_refused(tmp_path: Path, case: str) -> None:
    header, data, why = HEADERS[case]
    path = write(tmp_path / "r.safetensors", header, data)
    with pytest.raises(RefusalscopeError, match=why):
        load_direction(path)


def test_a_header_longer_than_its_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    path.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    with pytest.raises(DirectionFileError, match="its header would be 9223372036854775808 bytes"):
        load_direction(path)
    path.write_bytes(b"")
    with pytest.raises(DirectionFileError, match="is not a whole safetensors file"):
        load_direction(path)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"layer": -1}, "layer is '-1'; expected a whole number from 0 up"),
        ({"layer": "3"}, "layer is '3'"),
        ({"layer": True}, "layer is 'True'"),
        ({"layer": 2.5}, "layer is '2.5'"),
        ({"layer": 10**30}, "layer is '1000"),
        ({"position": "last"}, "position is 'last'; expected a whole number"),
        ({"model": ["x"]}, "model is .*; expected one line of text"),
        ({"model": "x\n# y"}, "model is"),
    ],
)
def test_facts_of_the_wrong_kind_are_refused(
    tmp_path: Path, facts: dict[str, Any], why: str
) -> None:
    path = tmp_path / "r.safetensors"
    save_file({"direction": torch.ones(4)}, path, metadata={"refusalscope": json.dumps(facts)})
    with pytest.raises(DirectionFileError, match=why):
        load_direction(path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_any_file_with_numbers_is_a_direction(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "r.safetensors"
    save_file({"direction": torch.ones(4, dtype=dtype)}, path)
    assert torch.equal(load_direction(path).vector, torch.ones(4))
