"""The mechanism folder of a run: its files, and all of them read back."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from refusalscope.results.mechanism_maps import (
    BaseAndChat,
    BetweenModels,
    Geometry,
    TokenProjections,
    TokenStudy,
    Trajectories,
    WhereItActs,
)
from refusalscope.results.mechanism_records import Heads, SuffixConditions, SuffixSearch
from refusalscope.results.record import Record
from refusalscope.results.run_records import read_record

R = TypeVar("R", bound=Record)

MECHANISM = "mechanism"
SUFFIX_SEARCH = f"{MECHANISM}/suffix_search.json"
SUFFIX_CONDITIONS = f"{MECHANISM}/suffix_conditions.json"
HEADS = f"{MECHANISM}/heads.json"
TOKEN_STUDY = f"{MECHANISM}/tokens.json"
TRAJECTORIES = f"{MECHANISM}/trajectories.json"
BASE_AND_CHAT = f"{MECHANISM}/base_and_chat.json"
WHERE_IT_ACTS = f"{MECHANISM}/where_it_acts.json"
TOKEN_PROJECTIONS = f"{MECHANISM}/token_projections.json"
GEOMETRY = f"{MECHANISM}/geometry.json"
BETWEEN_MODELS = f"{MECHANISM}/between_models.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class MechanismRecords:
    """What a run's mechanism folder holds; absent parts are None."""

    search: SuffixSearch | None
    suffixes: SuffixConditions | None
    heads: Heads | None
    tokens: TokenStudy | None
    trajectories: Trajectories | None
    base: BaseAndChat | None
    where: WhereItActs | None
    projections: TokenProjections | None
    geometry: Geometry | None
    between: BetweenModels | None

    @property
    def is_empty(self) -> bool:
        """Whether no part was done."""
        return all(getattr(self, name) is None for name in self.__slots__)


def read_mechanism(folder: Path) -> MechanismRecords:
    """Read every mechanism record of a run folder.

    Raises:
        RunFolderError: a file is not what its name says.
    """
    return MechanismRecords(
        search=_read(SuffixSearch, folder / SUFFIX_SEARCH),
        suffixes=_read(SuffixConditions, folder / SUFFIX_CONDITIONS),
        heads=_read(Heads, folder / HEADS),
        tokens=_read(TokenStudy, folder / TOKEN_STUDY),
        trajectories=_read(Trajectories, folder / TRAJECTORIES),
        base=_read(BaseAndChat, folder / BASE_AND_CHAT),
        where=_read(WhereItActs, folder / WHERE_IT_ACTS),
        projections=_read(TokenProjections, folder / TOKEN_PROJECTIONS),
        geometry=_read(Geometry, folder / GEOMETRY),
        between=_read(BetweenModels, folder / BETWEEN_MODELS),
    )


def _read(kind: type[R], path: Path) -> R | None:
    return read_record(kind, path) if path.is_file() else None
