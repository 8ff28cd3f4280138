"""How many places outside its own folder name each measure: what a new one would have to repeat.

    python scripts/measure_places.py

Counted are imports from the measure's folder, and texts of the source that are its name or the file
of its record; documentation and tests are not. Prints a line a measure, with the places.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import refusalscope
from refusalscope.results.measures import Measure, measures

SOURCE = Path(refusalscope.__file__).parent


def main() -> None:
    """Print the places."""
    for measure in measures():
        folder = SOURCE / "measures" / measure.name.replace("-", "_")
        found = [
            f"{path.relative_to(SOURCE)}:{line}"
            for path in sorted(SOURCE.rglob("*.py"))
            if not path.is_relative_to(folder)
            for line in _places(ast.parse(path.read_text("utf-8")), measure, folder.name)
        ]
        print(f"{measure.name}: {len(found)} {' '.join(found)}".rstrip())


def _places(tree: ast.AST, measure: Measure, folder: str) -> Iterator[int]:
    package = f"refusalscope.measures.{folder}"
    file = measure.path().replace("/{item}.json", "")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package):
            yield node.lineno
        if isinstance(node, ast.Constant) and node.value in (measure.name, file):
            yield node.lineno


if __name__ == "__main__":
    main()
