"""What carried directions depend on beside the run."""

from collections.abc import Mapping
from pathlib import Path

from refusalscope.measures.transfer.record import TransferOptions
from refusalscope.pipeline.reopen import own_options, require_direction
from refusalscope.results.files import sha256_file
from refusalscope.results.run_records import DIRECTION_TENSOR


def settings(_folder: Path, options: TransferOptions, _item: str) -> Mapping[str, object]:
    """The options; a source by its name and its direction.

    Raises:
        RunFolderError: a source is no run of this tool, or has no direction.
    """
    plain = options.model_dump(mode="json")
    for name in options.sources:
        own_options(Path(name), trust_remote_code=False)
        require_direction(Path(name))
    plain["digests of the directions"] = [
        sha256_file(Path(name) / DIRECTION_TENSOR) for name in options.sources
    ]
    return plain
