"""`import refusalscope` is quick; every name it offers is there, described, with an example."""

import inspect
import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files

import pytest

import refusalscope as rs

HEAVY = {"torch", "transformers", "tokenizers", "safetensors", "numpy", "pandas", "plotly"}
NAMES = [name for name in rs.__all__ if name != "__version__"]


def in_fresh_python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )


def test_the_import_loads_nothing_heavy() -> None:
    done = in_fresh_python(
        "import sys; before = set(sys.modules); import refusalscope\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        f"assert not new & {HEAVY!r}, new\n"
        "assert not any(name.startswith('refusalscope.') for name in sys.modules)\n"
        "dir(refusalscope), refusalscope.__version__, refusalscope.InputError\n"
        f"assert not set(sys.modules) & {HEAVY!r}"
    )
    assert done.returncode == 0, done.stderr


def test_instructions_and_runs_are_read_without_torch() -> None:
    done = in_fresh_python(
        "import sys, refusalscope as rs\n"
        "rs.read, rs.open_run, rs.Run, rs.Instruction\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    assert done.returncode == 0, done.stderr


def test_the_names_are_listed_and_there() -> None:
    assert sorted(rs.__all__) == dir(rs)
    assert rs.__version__ == version("refusalscope")
    for name in rs.__all__:
        assert getattr(rs, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = rs.no_such_name  # pyright: ignore[reportAttributeAccessIssue] # that is the test


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_described_with_an_example(name: str) -> None:
    found = getattr(rs, name)
    own = [found]
    if inspect.isclass(found):
        own += [
            getattr(found, key)
            for key in vars(found)
            if not key.startswith("_") and inspect.isroutine(getattr(found, key))
        ]
    for each in own:
        text = inspect.getdoc(each) or ""
        assert "Examples:" in text, each
        assert ">>> import refusalscope as rs" in text, each
    if inspect.isfunction(found):
        assert "Raises:" in (inspect.getdoc(found) or ""), name


WRONG_KINDS = """
import tempfile
from pathlib import Path
import torch
import refusalscope as rs
from refusalscope.library.direction import addition

model = rs.load("organism:llama3-aft")
r = rs.Direction(vector=torch.ones(model.d_model), layer=1)
wrong = {
    "model is a int; expected": lambda: rs.load(3),
    "dtype is 'float7'": lambda: rs.load("organism:llama3-aft", dtype="float7"),
    "label is 'eye'": lambda: rs.find_direction(model, label="eye"),
    "rule is 'thumb'": lambda: rs.find_direction(model, rule="thumb"),
    "model is a str; expected": lambda: rs.find_direction("organism:llama3-aft"),
    "model is a ChatModel": lambda: r.ablated(model.chat).__enter__(),
    "an instruction is a int": lambda: model.answer([3]),
    "a float was given": lambda: model.answer(1.5),
    "coefficient is '1'": lambda: r.added(model, coefficient="1").__enter__(),
    "coefficient is None": lambda: r.subtracted(model, coefficient=None).__enter__(),
    "shape (2, 3)": lambda: rs.Direction(vector=torch.ones(2, 3)),
    "torch.int64": lambda: rs.Direction(vector=torch.ones(3, dtype=torch.int64)),
    "vector is a list": lambda: rs.Direction(vector=[1.0]),
    "source is a int": lambda: rs.Direction.load(3),
    "path is a NoneType": lambda: r.save(None),
    "a direction is a str": lambda: rs.orthogonalize(model, ["r"]),
    "out is a int": lambda: rs.orthogonalize(model, r, out=1),
    "source is a list": lambda: rs.read([]),
    "path is a float": lambda: rs.Monitor.load(1.5),
    "direction is a str": lambda: addition("r"),
    "folder is a int": lambda: rs.open_run(1),
}
for told, call in wrong.items():
    try:
        call()
    except rs.InputError as error:
        assert told in str(error) and "\\n" not in str(error), (told, str(error))
    else:
        raise AssertionError(told)
with r.added(model, coefficient=0), r.ablated(model):
    pass
"""


def test_a_value_of_another_kind_is_one_line() -> None:
    """In a Python of its own: here the types of all arguments are checked before."""
    done = in_fresh_python(WRONG_KINDS)
    assert done.returncode == 0, done.stderr


def test_the_package_says_that_it_is_typed() -> None:
    assert (files("refusalscope") / "py.typed").is_file()


def test_python_m_is_the_command() -> None:
    words = [sys.executable, "-m", "refusalscope", "organism", "list"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "llama3-aft" in done.stdout
