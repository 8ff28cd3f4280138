"""Writing whole files or none: a result is complete or absent, and never replaces another's."""

import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from refusalscope.errors import OutputError
from refusalscope.results.given_files import open_given
from refusalscope.results.scratch import SCRATCH, remove_abandoned, scratch_folder

_HASH_BLOCK = 1 << 20


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all, through a scratch file beside it.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    scratch = _scratch(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile: its files are for their owner alone; ours are as the user's umask says.
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise output_error(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise output_error(path, error) from error
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(target: Path) -> Generator[Path]:
    """Yield a scratch folder that becomes `target` on success and is removed on failure.

    Scratch folders that killed commands have left beside it are removed first.

    Raises:
        OutputError: `target` exists already, or the disk is full.
    """
    try:
        is_there = os.path.lexists(target)  # a link that leads nowhere is there too
    except OSError as error:  # a name that is too long
        raise output_error(target, error) from error
    if is_there:
        raise OutputError(f"{target} exists already; give the name of a folder that does not exist")
    with ExitStack() as held:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(target.parent)
            scratch = held.enter_context(scratch_folder(target.name, target.parent))
        except OSError as error:
            raise output_error(target, error) from error
        try:
            yield scratch
            open_as_umask_says(scratch)
            scratch.rename(target)
        except OSError as error:
            shutil.rmtree(scratch, ignore_errors=True)
            raise output_error(target, error) from error
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


def open_as_umask_says(folder: Path) -> None:
    """Give every file below a folder the mode of a new one.

    Libraries that write through temporary files leave theirs for their owner alone.

    Raises:
        OSError: the folder cannot be written.
    """
    probe = _scratch(folder / "mode")
    descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
        probe.unlink()
    for path in folder.rglob("*"):
        found = path.lstat().st_mode
        if stat.S_ISREG(found) and stat.S_IMODE(found) != mode:
            path.chmod(mode)


def _scratch(path: Path) -> Path:
    """A free name beside `path`, by which whoever cleans up knows what is half-written."""
    return path.with_name(f".{path.name}{SCRATCH}{secrets.token_hex(6)}")


def output_error(path: Path, error: OSError) -> OutputError:
    """The one line a user sees when `path` cannot be written."""
    if error.errno == errno.ENOSPC:
        return OutputError(f"no space left on the disk of {path}; free some and start again")
    return OutputError(f"{path} cannot be written ({error.strerror or error}); check its folder")


def sha256_text(text: str) -> str:
    """Hex digest of a text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def by_content(plain: Mapping[str, object], **words: str) -> dict[str, object]:
    """Options as plain data, those that name a file by the digest of what it holds.

    Args:
        words: Options that may name one, each with what is in it; what names no file stays as
            it is.
    """
    found = dict(plain)
    for name, what in words.items():
        given = found.get(name)
        if isinstance(given, str) and Path(given).is_file():
            del found[name]
            found[f"digest of the {what}"] = sha256_file(Path(given))
    return found


def sha256_file(path: Path) -> str:
    """Hex digest of a file, read in blocks."""
    digest = hashlib.sha256()
    with open_given(path) as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
