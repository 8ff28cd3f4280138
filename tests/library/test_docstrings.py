"""The examples of the library's docstrings run and give what they say."""

import doctest
import shutil
from functools import cache
from pathlib import Path

import pytest

import refusalscope as rs
from refusalscope.library import find, model

FINDER = doctest.DocTestFinder()
EXAMPLES = {
    example.name: example
    for name in rs.__all__
    if name != "__version__"
    for example in FINDER.find(getattr(rs, name), f"rs.{name}", module=False, globs={})
    if example.examples
}


@pytest.fixture(scope="module", autouse=True)
def loaded_once() -> object:
    """Keep what is loaded and found: nearly every example begins with the same two lines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "load", cache(rs.load))
        patch.setattr(find, "find_direction", cache(rs.find_direction))
        yield


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_what_it_says(
    name: str, organism_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "rs.Run.measure":  # it writes to the run
        shutil.copytree(organism_run, tmp_path / "runs" / organism_run.name)
    else:
        (tmp_path / "runs").symlink_to(organism_run.parent)
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(EXAMPLES[name], out=told.append)
    assert runner.tries, name
    assert not runner.failures, "".join(told)


def test_many_examples_were_found() -> None:
    assert {"rs.load", "rs.Direction.ablated", "rs.Direction.load", "rs.Run.rates"} <= set(EXAMPLES)
