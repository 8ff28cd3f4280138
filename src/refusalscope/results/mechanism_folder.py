"""The mechanism folder of a run: its files, and all of them read back."""

from dataclasses import dataclass
from pathlib import Path

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
from refusalscope.results.run_records import read_if_there

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
        search=read_if_there(SuffixSearch, folder / SUFFIX_SEARCH),
        suffixes=read_if_there(SuffixConditions, folder / SUFFIX_CONDITIONS),
        heads=read_if_there(Heads, folder / HEADS),
        tokens=read_if_there(TokenStudy, folder / TOKEN_STUDY),
        trajectories=read_if_there(Trajectories, folder / TRAJECTORIES),
        base=read_if_there(BaseAndChat, folder / BASE_AND_CHAT),
        where=read_if_there(WhereItActs, folder / WHERE_IT_ACTS),
        projections=read_if_there(TokenProjections, folder / TOKEN_PROJECTIONS),
        geometry=read_if_there(Geometry, folder / GEOMETRY),
        between=read_if_there(BetweenModels, folder / BETWEEN_MODELS),
    )
