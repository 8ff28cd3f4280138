import subprocess
import sys
from importlib import metadata

from tiny_runs import Caller

from refusalscope.cli.main import Commands

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


def test_the_table_of_commands_says_what_each_says_of_itself() -> None:
    for name, late in Commands.late.items():
        made = late.made(name)
        assert made.name == name
        assert made.help.split("\n\n")[0].replace("\n", " ") == late.help, name


def test_a_command_of_another_name_is_one_line(refusalscope: Caller) -> None:
    assert "No such command 'evaluat'. Did you mean 'evaluate'?" in refusalscope("evaluat").line


def test_only_the_module_of_the_command_is_imported() -> None:
    program = (
        "import sys\nfrom refusalscope.cli.main import main\n"
        "sys.argv = ['refusalscope', 'organism', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "own = {name for name in sys.modules if name.startswith('refusalscope.cli.')}\n"
        "assert 'refusalscope.cli.organism' in own\n"
        "assert not own & {f'refusalscope.cli.{n}' for n in ('run', 'audit', 'evaluate')}, own\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
