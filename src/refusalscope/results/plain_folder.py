"""A folder that may come from somebody else: its files are read only where they are its own."""

import os
from pathlib import Path

from refusalscope.errors import RunFolderError


def require_plain_folder(folder: Path) -> None:
    """Refuse a folder with links that lead out of it, or with what is neither file nor folder.

    What is written into such a folder would be written elsewhere, and a pipe is never read to its
    end.

    Raises:
        RunFolderError: names the first.
    """
    own = os.path.realpath(folder)
    for root, folders, files in os.walk(folder):
        for name in sorted([*folders, *files]):
            path = os.path.join(root, name)  # noqa: PTH118 - this is walked for every command
            if os.path.islink(path):  # noqa: PTH114
                target = os.path.realpath(path)
                if os.path.commonpath([own, target]) != own:
                    raise RunFolderError(
                        f"{path} is a link out of {folder}; put what it stands for in its place"
                    )
            elif (
                name in files
                and not os.path.isfile(path)  # noqa: PTH113
                and os.path.lexists(path)  # a run that is at work has put it in its place since
            ):
                raise RunFolderError(
                    f"{path} is neither a file nor a folder; move it out of {folder}"
                )


def record_text(path: Path) -> str:
    """The text of a file that holds a record.

    Raises:
        RunFolderError: it is no regular file, cannot be read, or is not UTF-8.
    """
    if not path.is_file():
        raise RunFolderError(f"{path} is no regular file; put a copy of the record in its place")
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({error}); it was damaged or is not UTF-8: copy it again"
        ) from error
