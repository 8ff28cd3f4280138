"""Changelog fragments: those that are there can be joined, and what joining does."""

import importlib.util
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHANGELOG = """# Changelog

Words.

## [Unreleased]

### Added

- One.
- Two.

### Fixed

- Three.

## [0.1.0] - 2026-01-02

### Added

- All.
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("changelog", ROOT / "scripts" / "changelog.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "changelog.d").mkdir()
    (tmp_path / "changelog.d" / "README.md").write_text("How.\n")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    (root / "changelog.d" / name).write_text(text)


def changelog(root: Path) -> str:
    return (root / "CHANGELOG.md").read_text()


def test_the_fragments_of_this_repository_can_be_joined(script: ModuleType) -> None:
    before = changelog(ROOT)
    fragments = script.read_fragments(ROOT / "changelog.d")
    after = script.joined(before, fragments)
    lines = [line.rstrip("\n") for own in fragments.values() for line in own]
    assert set(after.splitlines()) >= {*before.splitlines(), *lines}
    assert script.joined(after, {}) == after


def test_fragments_go_to_the_ends_of_their_sections_and_are_removed(
    script: ModuleType, root: Path
) -> None:
    write(root, "b.added.md", "Four.\n")
    write(root, "a.added.md", "Before four.")
    write(root, "c.changed.md", "Five, in `code`.\n")
    assert script.main(["--join"], root=root) == 0
    joined = CHANGELOG.replace(
        "- Two.\n", "- Two.\n- Before four.\n- Four.\n\n### Changed\n\n- Five, in `code`.\n"
    )
    assert changelog(root) == joined
    assert [path.name for path in (root / "changelog.d").iterdir()] == ["README.md"]
    assert script.main(["--join"], root=root) == 0
    assert changelog(root) == joined


def test_without_an_order_they_are_shown_and_nothing_is_written(
    script: ModuleType, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(root, "c.security.md", "Five.")
    assert script.main([], root=root) == 0
    assert capsys.readouterr().out == "### Security\n\n- Five.\n\n"
    assert changelog(root) == CHANGELOG
    assert (root / "changelog.d" / "c.security.md").is_file()


def test_a_release_titles_what_is_unreleased(
    script: ModuleType, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(root, "c.removed.md", "Five.")
    assert script.main(["--is-released", "0.1.0"], root=root) == 1
    assert "c.removed.md" in capsys.readouterr().out
    assert script.main(["--release", "0.2.0"], root=root) == 0
    today = date.today().isoformat()
    assert f"## [Unreleased]\n\n## [0.2.0] - {today}\n\n### Added\n\n- One." in changelog(root)
    assert "### Removed\n\n- Five.\n\n### Fixed\n" in changelog(root)
    assert [script.main(["--is-released", name], root=root) for name in ("0.2.0", "0.1.0")] == [
        0
    ] * 2
    assert script.main(["--is-released", "0.3.0"], root=root) == 1
    assert "no section [0.3.0]" in capsys.readouterr().out
    for version, fault in (("0.1.0", "has version"), ("0.3.0", "nothing is unreleased")):
        with pytest.raises(SystemExit, match=fault):
            script.main(["--release", version], root=root)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.md", "Text."),
        ("a.new.md", "Text."),
        ("a.added.txt", "Text."),
        ("a.b.added.md", "Text."),
        ("a.added.md", ""),
        ("a.added.md", "- Text."),
        ("a.added.md", "One.\nTwo."),
    ],
)
def test_a_fragment_of_another_name_or_form_is_refused(
    script: ModuleType, root: Path, name: str, text: str
) -> None:
    write(root, name, text)
    with pytest.raises(SystemExit, match=rf"^{name}: expected"):
        script.main(["--join"], root=root)
    assert changelog(root) == CHANGELOG


def test_a_changelog_of_another_form_is_refused(script: ModuleType) -> None:
    with pytest.raises(SystemExit, match="has no line"):
        script.joined("# Changelog\n", {})
    with pytest.raises(SystemExit, match="more than sections"):
        script.joined("## [Unreleased]\n\nText.\n\n### Added\n\n- One.\n", {})
    with pytest.raises(SystemExit, match="more than sections"):
        script.joined("## [Unreleased]\n\n### New\n\n- One.\n", {})
