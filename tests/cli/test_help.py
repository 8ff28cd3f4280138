import subprocess
import sys
from importlib import metadata

from tiny_runs import Caller

PROGRAM = """
import sys
from refusalscope.cli.main import app, main
from typer.main import get_command

heavy = {"torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow", "jinja2"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)

def names(command, before=()):
    yield before
    for name, child in getattr(command, "commands", {}).items():
        yield from names(child, (*before, name))

for words in names(get_command(app)):
    sys.argv = ["refusalscope", *words, "--help"]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, (words, stop.code)
    assert not heavy & set(sys.modules), (words, heavy & set(sys.modules))
"""


def test_help_of_every_command_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Find a model's refusal direction" in done.stdout
    assert "--max-layer-fraction" in done.stdout
    assert "Train an organism from nothing" in done.stdout


def test_the_version_is_the_package_s(refusalscope: Caller) -> None:
    called = refusalscope("--version")
    assert (called.status, called.out) == (0, f"refusalscope {metadata.version('refusalscope')}\n")
