"""Join the fragments of changelog.d into CHANGELOG.md.

    python scripts/changelog.py                       checks the fragments and prints what they add
    python scripts/changelog.py --join                moves them under Unreleased
    python scripts/changelog.py --release 0.2.0       moves them, titles it with version and date
    python scripts/changelog.py --is-released 0.2.0   exit status 1 unless that version stands there

changelog.d/README.md says how fragments are named and written.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
UNRELEASED = "## [Unreleased]"
_SECTION = re.compile(r"^### (\w+)\n\n(.*?)(?=^### |\Z)", re.MULTILINE | re.DOTALL)


def fragment_files(folder: Path) -> list[Path]:
    """Every file of the folder but its README and hidden ones, by name."""
    return sorted(p for p in folder.iterdir() if p.name != "README.md" and p.name[0] != ".")


def read_fragments(folder: Path) -> dict[str, list[str]]:
    """The lines that the fragments add, by kind.

    Raises:
        SystemExit: a name or a text is not as the README asks; names the file.
    """
    found: dict[str, list[str]] = {}
    for path in fragment_files(folder):
        parts = path.name.split(".")
        kind = parts[1].capitalize() if len(parts) == 3 and parts[2] == "md" else None
        if kind not in KINDS:
            kinds = ", ".join(KINDS).lower()
            raise SystemExit(f"{path.name}: expected NAME.KIND.md, KIND one of {kinds}")
        text = path.read_text("utf-8").strip()
        if not text or "\n" in text or text.startswith(("-", "*", "#")):
            raise SystemExit(f"{path.name}: expected a sentence on one line, without a dash")
        found.setdefault(kind, []).append(f"- {text}\n")
    return found


def joined(changelog: str, fragments: Mapping[str, Sequence[str]]) -> str:
    """The changelog with the lines of the fragments at the ends of Unreleased's sections.

    Raises:
        SystemExit: the changelog has no section Unreleased, or text outside of headings there.
    """
    before, heading, rest = changelog.partition(f"{UNRELEASED}\n")
    if not heading:
        raise SystemExit(f"the changelog has no line {UNRELEASED!r}")
    end = rest.find("\n## ") + 1 or len(rest)
    own, after = rest[:end], rest[end:]
    sections = {kind: text.strip() for kind, text in _SECTION.findall(own)}
    if _SECTION.sub("", own).strip() or set(sections) - set(KINDS):
        raise SystemExit(f"under {UNRELEASED} stands more than sections of {', '.join(KINDS)}")
    for kind, lines in fragments.items():
        sections[kind] = "\n".join([*filter(None, [sections.get(kind)]), "".join(lines).strip()])
    written = "".join(f"\n### {kind}\n\n{sections[kind]}\n" for kind in KINDS if kind in sections)
    return before + heading + written + ("\n" + after if after else "")


def released(changelog: str, version: str, day: date) -> str:
    """The changelog with Unreleased titled as a version, and a new, empty Unreleased above it.

    Raises:
        SystemExit: the version is there already, or nothing is unreleased.
    """
    if is_released(changelog, version):
        raise SystemExit(f"the changelog has version {version} already")
    _, _, rest = changelog.partition(f"{UNRELEASED}\n")
    if not rest.lstrip().startswith("### "):
        raise SystemExit("nothing is unreleased")
    title = f"{UNRELEASED}\n\n## [{version}] - {day.isoformat()}"
    return changelog.replace(UNRELEASED, title, 1)


def is_released(changelog: str, version: str) -> bool:
    """Whether the changelog has a dated section of a version."""
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$"
    return re.search(heading, changelog, re.MULTILINE) is not None


def main(words: Sequence[str], *, root: Path = ROOT) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--join", action="store_true")
    what.add_argument("--release", metavar="VERSION")
    what.add_argument("--is-released", metavar="VERSION")
    asked = parser.parse_args(words)
    file, folder = root / "CHANGELOG.md", root / "changelog.d"
    changelog, fragments = file.read_text("utf-8"), read_fragments(folder)
    if asked.is_released:
        if fragments:
            print(f"changelog.d has fragments: {', '.join(p.name for p in fragment_files(folder))}")
        elif not is_released(changelog, asked.is_released):
            print(f"CHANGELOG.md has no section [{asked.is_released}] with a date")
        else:
            return 0
        return 1
    text = joined(changelog, fragments)
    if asked.release:
        text = released(text, asked.release, date.today())
    if not (asked.join or asked.release):
        for kind in KINDS:
            if lines := fragments.get(kind):
                print(f"### {kind}\n\n{''.join(lines)}")
        return 0
    file.write_text(text, "utf-8")
    for path in fragment_files(folder):
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
