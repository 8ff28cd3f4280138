"""What each rung depends on beside the run: the options that are its own, and no others."""

from collections.abc import Mapping
from pathlib import Path

from refusalscope.measures.ladder.record import LadderOptions, pairs_of, rank_of
from refusalscope.results.attack_records import OPTIONS_OF
from refusalscope.results.files import sha256_file

_OWN = {**OPTIONS_OF, "optimised": ("optimise_steps", "rank_prompts")}


def settings(_folder: Path, options: LadderOptions, item: str) -> Mapping[str, object]:
    """The options of one rung, as plain data."""
    names = _OWN.get(item, ("rank_prompts",) if (rank_of(item) or 0) > 1 else ())
    plain = options.model_dump(mode="json")
    found = {name: plain[name] for name in names}
    if pairs_of(item) is not None and options.pairs is not None:
        found["digest of the pairs"] = sha256_file(Path(options.pairs))
    return found
