"""What the meaning of a direction depends on beside the run."""

from collections.abc import Mapping
from pathlib import Path

from refusalscope.measures.meaning.record import MeaningOptions
from refusalscope.results.files import by_content


def settings(_folder: Path, options: MeaningOptions, _item: str) -> Mapping[str, object]:
    """The options; a file by what it holds."""
    plain = options.model_dump(mode="json")
    return by_content(plain, concepts="labelled instructions", dictionary="dictionary")
