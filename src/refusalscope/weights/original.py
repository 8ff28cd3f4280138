"""The checkpoint that an edit was made of, found again and recognised by its digests."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from refusalscope.errors import ModelLoadError
from refusalscope.results.edit_records import EditRecord
from refusalscope.weights.checkpoint import Checkpoint, StoredTensor, open_checkpoint
from refusalscope.weights.tensor_hash import digest_of, hash_shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """The original's tensors."""

    checkpoint: Checkpoint
    digests: Mapping[str, str]
    """BLAKE3 of the bytes by tensor."""

    def before(self, name: str, *, digest: str | None) -> StoredTensor | None:
        """The tensor that `name` was; that of a digest where an edit has given it a new name."""
        if name in self.checkpoint.tensors:
            return self.checkpoint.tensors[name]
        same = [own for own, found in self.digests.items() if found == digest]
        return self.checkpoint.tensors[same[0]] if same else None


def open_original(folder: Path, record: EditRecord) -> Original:
    """The original in a folder.

    Raises:
        ModelLoadError: There is no checkpoint, or it is not the one that was edited.
    """
    checkpoint = open_checkpoint(folder)
    shards = hash_shards(checkpoint)
    found = {shard: digest_of(rows, side="after") for shard, rows in shards.items()}
    odd = [name for name in found if record.model.digests.get(name) != found[name]]
    if odd:
        raise ModelLoadError(
            f"{folder} is not the checkpoint that was edited ({odd[0]} differs); give that one "
            "with --base"
        )
    digests = {row.name: row.after for rows in shards.values() for row in rows}
    return Original(checkpoint=checkpoint, digests=digests)


def find_original(folder: Path, record: EditRecord) -> Original | str:
    """The original in a folder that it is likely in; or why it is not had, in a few words."""
    try:
        is_folder = folder.is_dir()
    except OSError:  # a name that is too long
        is_folder = False
    if not is_folder:
        return f"{record.model.source} is no folder here"
    try:
        return open_original(folder, record)
    except ModelLoadError as error:
        return str(error)
