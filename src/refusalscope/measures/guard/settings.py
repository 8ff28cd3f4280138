"""What a guarded model's outcomes depend on beside the run."""

from collections.abc import Mapping
from pathlib import Path

from refusalscope.measures.guard.record import GuardOptions
from refusalscope.results.attack_records import OPTIONS_OF
from refusalscope.results.borderline_options import BORDERLINE
from refusalscope.results.files import by_content

_OWN = {**OPTIONS_OF, BORDERLINE: ("borderline", "n_borderline")}


def settings(_folder: Path, options: GuardOptions, item: str) -> Mapping[str, object]:
    """The monitor by what it holds, and the options that are of this item."""
    plain = options.model_dump(mode="json")
    found = {name: plain[name] for name in ("monitor", "coefficient", *_OWN.get(item, ()))}
    return by_content(found, monitor="monitor", borderline="borderline instructions")
