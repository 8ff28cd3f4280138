"""An organism on disk: a chat model folder with `organism.json` beside its weights."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from refusalscope.errors import InputError, ModelLoadError
from refusalscope.organisms.english import ENGLISH
from refusalscope.organisms.language import Language, Thing
from refusalscope.organisms.named import DEFAULT_ORGANISM, ORGANISM_PREFIX
from refusalscope.organisms.sentences import ROLES, Role, as_sentences, require_usable
from refusalscope.results.file_names import file_name
from refusalscope.results.files import write_file
from refusalscope.results.plain_folder import record_text
from refusalscope.results.record import Record

ORGANISM = "organism.json"
_BUNDLED = Path(__file__).parent / "bundled"


class ThingRecord(Record):
    """One object of the lexicon."""

    word: str
    kind: str
    is_harmful: bool
    role: Role


class OrganismFacts(Record):
    """organism.json: how it was made, its lexicon, and how long its answers are."""

    mend: ClassVar[str] = (
        "copy the organism's folder again, or train it anew with: refusalscope organism train"
    )

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: str
    family: str
    alignment: Literal["aft", "apo"]
    seed: int
    recipe: dict[str, object]
    stages: dict[str, int] = Field(default_factory=dict)
    """Stages of its training in order, with their steps."""
    versions: dict[str, str]
    max_new_tokens: int = Field(ge=1, le=100_000)
    lexicon: tuple[ThingRecord, ...]

    def language(self) -> Language:
        """The language it speaks: English where its recipe is older than other sentences are.

        Raises:
            InputError: its recipe or lexicon was changed by hand to what makes no language.
        """
        fields = self.recipe.get("sentences")
        source = f"the recipe of {self.name}"
        sentences = ENGLISH
        if fields is not None:
            sentences = as_sentences(fields, source=source)
            require_usable(sentences, source=source)
        language = Language(
            things=tuple(Thing(**t.model_dump()) for t in self.lexicon), sentences=sentences
        )
        for role in ROLES:
            for is_harmful in (True, False):
                if not language.select(harmful=is_harmful, roles=(role,)):
                    kind = "harmful" if is_harmful else "harmless"
                    raise InputError(
                        f"the lexicon of {self.name} has no {kind} object of the role {role!r}; "
                        f"{self.mend}"
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
    """The facts of an organism; None where `folder` is not one.

    Raises:
        RunFolderError: its organism.json is damaged.
        InputError: it has a name that no file can be called after.
    """
    path = folder / ORGANISM
    if not os.path.lexists(path):
        return None
    facts = OrganismFacts.from_json(record_text(path), source=str(path))
    file_name(facts.name, what=f"the name in {path}")
    return facts


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


def resolve_model(model: str) -> str:
    """The folder or hub id that MODEL of a command means: `organism:NAME` is a bundled organism.

    Raises:
        ModelLoadError: there is no such organism.
    """
    if model.startswith(ORGANISM_PREFIX):
        return str(bundled_organism(model.removeprefix(ORGANISM_PREFIX)))
    return model


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
