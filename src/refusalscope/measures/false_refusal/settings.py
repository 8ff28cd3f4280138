"""What the false-refusal direction depends on beside the run."""

from collections.abc import Mapping
from pathlib import Path

from refusalscope.measures.false_refusal.record import FalseRefusalOptions
from refusalscope.results.files import by_content


def settings(_folder: Path, options: FalseRefusalOptions, _item: str) -> Mapping[str, object]:
    """The instructions by what they are, where they come from a file."""
    return by_content(options.model_dump(mode="json"), borderline="borderline instructions")
