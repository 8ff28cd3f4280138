"""What a guarded model's outcomes depend on beside the run."""

from collections.abc import Mapping
from pathlib import Path

from refusalscope.measures.guard.record import BORDERLINE, GuardOptions
from refusalscope.results.files import sha256_file

_SEARCH = ("suffix_tokens", "search_steps", "search_candidates", "search_prompts")
_OWN: dict[str, tuple[str, ...]] = {
    "system_prompt": ("system_prompt",),
    "answer_prefix": ("prefix",),
    "random_suffix": ("suffix_tokens",),
    "searched_suffix": _SEARCH,
    BORDERLINE: ("borderline", "n_borderline"),
}


def settings(_folder: Path, options: GuardOptions, item: str) -> Mapping[str, object]:
    """The monitor by what it holds, and the options that are of this item."""
    plain = options.model_dump(mode="json")
    found = {name: plain[name] for name in ("coefficient", *_OWN.get(item, ()))}
    for name, given in (("monitor", options.monitor), ("borderline", options.borderline)):
        if given is not None and Path(given).is_file() and (name == "monitor" or name in found):
            found.pop(name, None)
            found[f"digest of the {name}"] = sha256_file(Path(given))
    return found
