"""A folder that a run is writing into is read as it stands at that moment."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from refusalscope.errors import RunFolderError
from refusalscope.results.plain_folder import require_plain_folder


def test_a_scratch_file_that_is_gone_before_it_is_looked_at_is_nothing_odd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = os.walk

    def walked(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
        for root, folders, files in walk(folder):
            yield root, folders, [*files, ".run.json.scratch-1"]

    monkeypatch.setattr(os, "walk", walked)
    require_plain_folder(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RunFolderError, match="pipe is neither a file nor a folder"):
        require_plain_folder(tmp_path)
