"""An organism on disk: a chat model folder with `organism.json` beside its weights."""

from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Literal

from pydantic import Field

from refusalscope.errors import InputError, ModelLoadError
from refusalscope.organisms.english import ENGLISH
from refusalscope.organisms.language import Language, Thing
from refusalscope.organisms.sentences import ROLES, Role, as_sentences
from refusalscope.results.file_names import file_name
from refusalscope.results.files import write_file
from refusalscope.results.given_files import given_text
from refusalscope.results.numbers import Count
from refusalscope.results.record import Record

ORGANISM = "organism.json"
_BUNDLED = Path(__file__).parent / "bundled"
DEFAULT_ORGANISM = "llama3-aft"


class ThingRecord(Record):
    """One object of the lexicon."""

    word: str
    kind: str
    is_harmful: bool
    role: Role


class OrganismFacts(Record):
    """organism.json: how it was made, its lexicon, and how long its answers are."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: str
    family: str
    alignment: Literal["aft", "apo"]
    seed: int
    recipe: dict[str, object]
    stages: dict[str, int] = Field(default_factory=dict)
    """Stages of its training in order, with their steps."""
    versions: dict[str, str]
    max_new_tokens: Count
    lexicon: tuple[ThingRecord, ...]

    def language(self) -> Language:
        """The language it speaks: English where its recipe is older than other sentences are.

        Raises:
            InputError: its lexicon or the sentences of its recipe were changed to what are none.
        """
        fields = self.recipe.get("sentences")
        source = f"the recipe of {self.name}"
        language = Language(
            things=tuple(Thing(**t.model_dump()) for t in self.lexicon),
            sentences=ENGLISH if fields is None else as_sentences(fields, source=source),
        )
        for harmful, role in product((True, False), ROLES):
            if not language.select(harmful=harmful, roles=(role,)):
                kind = "harmful" if harmful else "harmless"
                raise InputError(
                    f"the lexicon of {self.name} has no {kind} object of the role {role!r}; its "
                    f"{ORGANISM} was changed: copy it again"
                )
        return language


class OrganismRow(Record):
    """One row of `organism list`."""

    name: str
    path: str
    bundled: bool
    family: str
    alignment: str


def lexicon_of(language: Language) -> tuple[ThingRecord, ...]:
    """The lexicon as records."""
    return tuple(ThingRecord(**asdict(thing)) for thing in language.things)


def read_organism(folder: Path) -> OrganismFacts | None:
    """The facts of an organism; None where `folder` is not one."""
    path = folder / ORGANISM
    if not path.is_file():
        return None
    return OrganismFacts.from_json(given_text(path), source=str(path))


def write_organism(facts: OrganismFacts, folder: Path) -> None:
    """Write organism.json."""
    write_file(folder / ORGANISM, facts.to_json())


def bundled_organism(name: str = DEFAULT_ORGANISM) -> Path:
    """The folder of a bundled organism.

    Raises:
        ModelLoadError: there is none of that name.
    """
    folder = _BUNDLED / file_name(name, what="the name of an organism")
    if read_organism(folder) is None:
        names = ", ".join(row.name for row in list_organisms(())) or "none"
        raise ModelLoadError(f"no bundled organism is called {name!r}; there are: {names}")
    return folder


def list_organisms(folders: tuple[Path, ...]) -> list[OrganismRow]:
    """The bundled organisms and those directly below each of `folders`.

    Raises:
        InputError: one of `folders` does not exist.
    """
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; give one that holds organisms")
    rows = []
    for parent, is_bundled in [(_BUNDLED, True), *((f, False) for f in folders)]:
        for path in sorted(parent.iterdir()) if parent.is_dir() else []:
            if path.is_dir() and (facts := read_organism(path)) is not None:
                rows.append(
                    OrganismRow(
                        name=facts.name,
                        path=str(path),
                        bundled=is_bundled,
                        family=facts.family,
                        alignment=facts.alignment,
                    )
                )
    return rows
