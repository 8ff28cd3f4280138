"""Every kind of record is read where a later version has put one more field into it."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import refusalscope
from refusalscope.errors import RunFolderError
from refusalscope.results.record import Record

SOURCE = Path(refusalscope.__file__).parent
LATER = "of_a_later_version"


def kinds(of: type[Record] = Record) -> Iterator[type[Record]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


def every_kind() -> list[type[Record]]:
    for path in sorted(SOURCE.rglob("*.py")):
        if "(Record):" in path.read_text("utf-8"):
            name = path.relative_to(SOURCE.parent).with_suffix("").as_posix()
            importlib.import_module(name.replace("/", "."))
    found = {kind.__name__: kind for kind in kinds() if kind.__module__.startswith("refusalscope")}
    return [found[name] for name in sorted(found)]


EVERY = every_kind()
EXACT = {kind.__name__ for kind in EVERY if kind.is_exact}


class Made:
    """A value of every field of a record, from its schema; a later version's has one field more."""

    def __init__(self, kind: type[Record], *, is_later: bool) -> None:
        self.schema = kind.model_json_schema()
        self.is_later = is_later
        self.n_later = 0
        self._within: list[str] = []

    def value(self, schema: dict[str, Any] | None = None) -> Any:
        own = self.schema if schema is None else schema
        if "$ref" in own:
            name = own["$ref"].rpartition("/")[2]
            self._within.append(name)
            made = self.value(self.schema["$defs"][name])
            self._within.pop()
            return made
        if "const" in own:
            return own["const"]
        if "enum" in own:
            return own["enum"][0]
        for several in ("anyOf", "oneOf"):
            if several in own:
                return self.value(own[several][0])
        return getattr(self, own.get("type", "anything"))(own)

    def object(self, own: dict[str, Any]) -> dict[str, Any]:
        if "properties" not in own:
            more = own.get("additionalProperties")
            keys = own.get("propertyNames", {}).get("enum", ["1"])
            return {keys[0]: self.value(more if isinstance(more, dict) else {"type": "string"})}
        fields = {name: self.value(field) for name, field in own["properties"].items()}
        if self.is_later and own.get("title") not in EXACT:
            self.n_later += 1
            fields[LATER] = {"x": [1]}
        return fields

    def array(self, own: dict[str, Any]) -> list[Any]:
        if "prefixItems" in own:
            return [self.value(one) for one in own["prefixItems"]]
        if own.get("items", {}).get("$ref", "/").rpartition("/")[2] in self._within:
            return []  # a record of its own kind within it
        return [self.value(own.get("items", {}))] * max(1, own.get("minItems", 1))

    def string(self, own: dict[str, Any]) -> str:
        return {"date": "2025-01-02"}.get(own.get("format", ""), "1")

    def integer(self, own: dict[str, Any]) -> int:
        return max(1, own.get("minimum", 1))

    def number(self, own: dict[str, Any]) -> float:
        return own.get("minimum", 0.0) or own.get("exclusiveMinimum", 0.0) / 2 + 0.25

    def boolean(self, _own: dict[str, Any]) -> bool:
        return False

    def null(self, _own: dict[str, Any]) -> None:
        return None

    def anything(self, _own: dict[str, Any]) -> str:
        return "text"


@pytest.mark.parametrize("kind", [kind for kind in EVERY if not kind.is_exact])
def test_one_more_field_changes_nothing(kind: type[Record]) -> None:
    plain = json.dumps(Made(kind, is_later=False).value())
    made = Made(kind, is_later=True)
    later = json.dumps(made.value())
    assert made.n_later >= 1
    assert kind.from_json(later, source="a.json") == kind.from_json(plain, source="a.json")


@pytest.mark.parametrize("kind", [kind for kind in EVERY if kind.is_exact])
def test_options_of_a_later_version_are_refused(kind: type[Record]) -> None:
    text = json.dumps({LATER: 1})
    with pytest.raises(RunFolderError, match=f"{LATER}: .*; a later version of refusalscope wrote"):
        kind.from_json(text, source="a.json")


def test_all_kinds_are_here() -> None:
    assert len(EVERY) >= 90
    names = {kind.__name__ for kind in EVERY}
    assert {"EditRecord", "Comparison", "ImportFacts", "PaperTables", "SearchStep"} <= names
    assert {"RunOptions", "MechanismOptions", "LimitOptions"} <= EXACT
