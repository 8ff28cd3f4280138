"""What the meaning of a direction depends on beside the run."""

from collections.abc import Mapping
from pathlib import Path

from refusalscope.measures.meaning.record import MeaningOptions
from refusalscope.results.files import sha256_file


def settings(_folder: Path, options: MeaningOptions, _item: str) -> Mapping[str, object]:
    """The options; a file by what it holds."""
    plain = options.model_dump(mode="json")
    for name in ("concepts", "dictionary"):
        given = plain[name]
        if given is not None and Path(given).is_file():
            del plain[name]
            plain[f"digest of {name}"] = sha256_file(Path(given))
    return plain
