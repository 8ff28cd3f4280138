"""What README.md and docs/*.md show is so: examples run, links lead somewhere, commands parse.

The python blocks of one page run in order, in one namespace, in an empty folder. A `text` block
right after a python block is what that block prints.
"""

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from refusalscope.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PACKAGE = ROOT / "src" / "refusalscope"
PAGES = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "changelog.d" / "README.md",
    *sorted((ROOT / "docs").glob("**/*.md")),
]
_CODE_FILE = re.compile(r"`((?:[\w.-]+/)+[\w-]+\.py)`")
_FENCE = re.compile(r"^\s*(```+|~~~+)\s*(\S*)")
_LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
_SHELL_PREFIX = re.compile(r"^\s*(?:\$ +)?(?:\.venv/bin/)?(?=refusalscope\s)")
_TREE_GLYPHS = "│├└─| `+"
_CONTROL = {"|", ">", ">>", "<", "&", "&&", "||", ";", ">&"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    """Of its first line of content, from 1."""
    language: str
    text: str
    follows: "Block | None" = None
    """The block before it, where nothing but blank lines lies between."""

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8") if page.is_file() else ""


def blocks_of(page: Path, text: str) -> Iterator[Block]:
    fence, language, start, content = "", "", 0, []
    last: Block | None = None
    for number, line in enumerate(text.splitlines(), 1):
        found = _FENCE.match(line)
        if fence:
            if found and found[1] == fence and not found[2]:
                last = Block(
                    page=page,
                    line=start,
                    language=language,
                    text="\n".join(content) + "\n",
                    follows=last,
                )
                yield last
                fence = ""
            else:
                content.append(line)
        elif found:
            fence, language, start, content = found[1], found[2], number + 1, []
        elif line.strip():
            last = None
    assert not fence, f"{page}: a fence is not closed"


def all_blocks(page: Path) -> list[Block]:
    return list(blocks_of(page, read(page)))


WITH_PYTHON = [page for page in PAGES if any(b.language == "python" for b in all_blocks(page))]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_the_python_examples_run_and_print_what_the_page_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    n_threads = torch.get_num_threads()
    # The bundled organism is small: on a busy machine its threads only wait for each other.
    torch.set_num_threads(1)
    try:
        run_examples(all_blocks(page))
    finally:
        torch.set_num_threads(n_threads)


def run_examples(blocks: list[Block]) -> None:
    namespace: dict[str, Any] = {"__name__": "docs"}
    printed: dict[str, str] = {}
    for block in blocks:
        if block.language == "python":
            # Blank lines in front, so that a traceback names the line of the page.
            code = compile("\n" * (block.line - 1) + block.text, str(block.page), "exec")
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(code, namespace)
            printed[block.place] = out.getvalue()
        elif block.language == "text" and block.follows and block.follows.place in printed:
            assert printed[block.follows.place] == block.text, block.place


def shell_lines(blocks: list[Block]) -> Iterator[tuple[str, list[str]]]:
    """Place and words of every shell line that calls `refusalscope`, up to a pipe or the like."""
    for block in blocks:
        if block.language == "python":
            continue
        joined = block.text.replace("\\\n", " " * 2)
        for number, line in enumerate(joined.splitlines()):
            if (prefix := _SHELL_PREFIX.match(line)) is None:
                continue
            lexer = shlex.shlex(line[prefix.end() :], posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words: list[str] = []
            for word in lexer:
                if word in _CONTROL:
                    break
                words.append(word)
            yield f"{block.place} (line {number + 1} of the block)", words[1:]


def parse(words: list[str]) -> None:
    """Parse a command line down to its last option; nothing is run.

    typer may bring its own copy of click; so commands are told apart by what they have.
    """
    command: Any = typer.main.get_command(app)
    path = ["refusalscope"]
    rest = [word for word in words if word != "..."]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        usual = getattr(command, "default_command", None)
        name = usual if usual and rest[0] not in command.commands else rest.pop(0)
        assert name in command.commands, f"{' '.join(path)} has no command {name!r}"
        command = command.commands[name]
        path.append(name)
    if {"--help", "--version"} & set(rest):
        return
    assert not hasattr(command, "commands"), f"{' '.join(path)} needs a command"
    command.make_context(" ".join(path), rest)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_shell_line_is_a_command_with_the_options_it_has(page: Path) -> None:
    for place, words in shell_lines(all_blocks(page)):
        try:
            parse(words)
        except typer.TyperException as error:
            pytest.fail(f"{place}: refusalscope {shlex.join(words)}: {error.format_message()}")
        except AssertionError as error:
            pytest.fail(f"{place}: {error}")


def prose_of(page: Path) -> str:
    """The page without its fenced blocks and code spans."""
    fence, kept = "", []
    for line in read(page).splitlines():
        found = _FENCE.match(line)
        if fence:
            fence = "" if found and found[1] == fence else fence
        elif found:
            fence = found[1]
        else:
            kept.append(re.sub(r"`[^`]*`", lambda m: "x" * len(m[0]), line))
    return "\n".join(kept)


def anchors_of(page: Path) -> set[str]:
    """The ids that GitHub gives a page's headings."""
    outside = re.sub(r"(?ms)^\s*```.*?^\s*```", "", read(page))
    anchors: set[str] = set()
    for heading in re.findall(r"(?m)^#{1,6}\s+(.*?)\s*$", outside):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        n_before = sum(anchor == slug or anchor.startswith(f"{slug}-") for anchor in anchors)
        anchors.add(slug if slug not in anchors else f"{slug}-{n_before}")
    return anchors


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for target in _LINK.findall(prose_of(page)):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        file, _, anchor = target.partition("#")
        path = page if not file else (page.parent / file).resolve()
        is_page = path.suffix == ".md" and path.is_file()
        if not path.exists() or (anchor and is_page and anchor not in anchors_of(path)):
            broken.append(target)
    assert not broken, f"{page.name} links to what is not there: {', '.join(broken)}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_python_file_that_a_page_names_exists(page: Path) -> None:
    named = {file for line in read(page).splitlines() for file in _CODE_FILE.findall(line)}
    missing = [f for f in sorted(named) if not any((at / f).is_file() for at in (ROOT, PACKAGE))]
    assert not missing, f"{page.name} names files that do not exist: {', '.join(missing)}"


def tree_entries(block: Block) -> Iterator[str]:
    """Paths that a file tree names, each below the entries it is indented under.

    A line is indentation (blanks or box drawing), a name or several with commas, then its clause.
    A folder ends in a slash.
    """
    above: list[tuple[int, str]] = []
    for line in block.text.splitlines():
        bare = line.lstrip(_TREE_GLYPHS)
        if not bare:
            continue
        depth = len(line) - len(bare)
        names = re.match(r"(?:[^\s,]+,\s?)*[^\s,]+", bare)
        assert names is not None
        while above and above[-1][0] >= depth:
            above.pop()
        folder = above[-1][1] if above else ""
        for name in re.split(r",\s?", names[0]):
            if name.strip(".…"):
                yield folder + name
        if names[0].endswith("/"):
            above.append((depth, folder + names[0]))


def is_tree(block: Block) -> bool:
    """A block of this repository's files; the tree of a run folder is not one."""
    lines = [line.lstrip(_TREE_GLYPHS) for line in block.text.splitlines() if line.strip()]
    first = lines[0].split()[0] if lines else ""
    names_files = sum(bool(re.match(r"\S+(/|\.py|\.md|\.toml)(,|\s|$)", line)) for line in lines)
    return (
        block.language in ("", "text", "tree")
        and names_files >= 4
        and not first.startswith("runs")
        and "NAME" not in first
    )


def exists(entry: str) -> bool:
    """Whether an entry is there, from the root or from src; the root's own name may be in front."""
    inside = entry.removeprefix("refusalscope/")
    for root, path in ((ROOT, entry), (ROOT / "src", entry), (ROOT, inside)):
        if any(root.glob(path)) if "*" in path else (root / path).exists():
            return True
    return False


def test_every_file_in_the_readmes_tree_exists() -> None:
    if not read(README).strip():
        pytest.fail("README.md is empty")
    trees = [block for block in all_blocks(README) if is_tree(block)]
    assert trees, "README.md shows no file tree"
    missing = [entry for tree in trees for entry in tree_entries(tree) if not exists(entry)]
    assert not missing, f"README.md names files that do not exist: {', '.join(missing)}"


def test_the_readmes_tree_is_the_folders_of_the_package_and_no_others() -> None:
    trees = [block for block in all_blocks(README) if is_tree(block)]
    named = {(ROOT / entry).resolve() for tree in trees for entry in tree_entries(tree)}
    listed = {path.name for path in named if path.parent == PACKAGE and path.suffix == ""}
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert listed == folders


def test_the_readme_counts_the_architectures_that_the_table_counts() -> None:
    table = read(ROOT / "docs" / "architectures.md")
    found = re.search(r"Of the (\d+) causal language models of transformers, (\d+) hold", table)
    assert found is not None
    n_all, n_held = found.groups()
    said = " ".join(read(README).split())
    assert f"for {n_held} of the {n_all} decoder architectures of transformers" in said


# The checks themselves: each must be able to fail.


def page_of(text: str) -> list[Block]:
    return list(blocks_of(README, text))


def test_an_example_that_raises_or_prints_something_else_fails() -> None:
    with pytest.raises(ZeroDivisionError):
        run_examples(page_of("```python\n1 / 0\n```\n"))
    with pytest.raises(AssertionError, match=r"README\.md:6"):
        run_examples(page_of("```python\nprint(1)\n```\n\n```text\n2\n```\n"))
    run_examples(
        page_of("```python\na = 1\n```\nand\n\n```python\nprint(a)\n```\n```text\n1\n```\n")
    )


def test_a_command_or_option_that_does_not_exist_fails() -> None:
    with pytest.raises(AssertionError, match="no command 'walk'"):
        parse(["walk"])
    with pytest.raises(typer.TyperException, match="--nope"):
        parse(["run", "--nope"])
    with pytest.raises(typer.TyperException, match="valid integer"):
        parse(["run", "--n-val", "many"])
    parse(["organism", "list", "--json"])


def test_shell_lines_are_read_as_a_shell_reads_them() -> None:
    text = "```bash\n$ refusalscope run --out 'a b' \\\n    --json | head  # it\nls\n```\n"
    assert [words for _, words in shell_lines(page_of(text))] == [["run", "--out", "a b", "--json"]]


def test_a_tree_names_files_below_their_folders() -> None:
    text = (
        "```text\nsrc/refusalscope/    code\n├── errors.py     one clause\n"
        "└── models/       another\n    ├── hooks.py, nothing_here.py    two\nMakefile  3\n```\n"
    )
    (block,) = page_of(text)
    assert is_tree(block)
    entries = list(tree_entries(block))
    assert entries == [
        "src/refusalscope/",
        "src/refusalscope/errors.py",
        "src/refusalscope/models/",
        "src/refusalscope/models/hooks.py",
        "src/refusalscope/models/nothing_here.py",
        "Makefile",
    ]
    assert [e for e in entries if not exists(e)] == ["src/refusalscope/models/nothing_here.py"]
