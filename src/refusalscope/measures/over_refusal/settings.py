"""What over-refusal depends on beside the run."""

from collections.abc import Mapping
from pathlib import Path

from refusalscope.measures.over_refusal.record import OverRefusalOptions
from refusalscope.results.files import sha256_file


def settings(_folder: Path, options: OverRefusalOptions, _item: str) -> Mapping[str, object]:
    """The instructions by what they are, where they come from a file."""
    plain = options.model_dump(mode="json")
    path = None if options.borderline is None else Path(options.borderline)
    if path is not None and path.is_file():
        del plain["borderline"]
        plain["digest of the borderline instructions"] = sha256_file(path)
    return plain
