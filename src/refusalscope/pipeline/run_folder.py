"""A run's folder: whose it is, which stages are done, and the journal of completions."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refusalscope.errors import RunFolderError
from refusalscope.pipeline.folder_lock import LOCK
from refusalscope.pipeline.same_run import all_facts, require_same_run
from refusalscope.results.files import SCRATCH, output_error, sha256_text, write_file
from refusalscope.results.plain_folder import record_text, require_plain_folder
from refusalscope.results.record import canonical_json
from refusalscope.results.records import (
    Completion,
    MadeWith,
    RefusalTokens,
    RunManifest,
    Slot,
)
from refusalscope.results.run_records import COMPLETIONS, RUN, TIMINGS

_LOG = logging.getLogger(__name__)
_MAX_SECONDS = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """A folder that belongs to one run."""

    path: Path

    def manifest(self) -> RunManifest:
        """run.json as it is now."""
        return RunManifest.from_json(record_text(self.path / RUN), source=str(self.path / RUN))

    def set_refusal_tokens(self, tokens: RefusalTokens) -> None:
        """Note the refusal tokens that the run rests on."""
        manifest = self.manifest()
        model = manifest.model.model_copy(update={"refusal_tokens": tokens})
        write_file(self.path / RUN, manifest.model_copy(update={"model": model}).to_json())

    def is_done(self, stage: str, key: str) -> bool:
        """Whether `stage` was finished with these very inputs and options."""
        return self.manifest().stages.get(stage) == key

    def forget(self, stages: Sequence[str]) -> None:
        """Note that stages are to be done anew; nothing is written where none was done."""
        before = self.manifest().stages
        kept = {name: key for name, key in before.items() if name not in stages}
        if kept != before:
            self._change("stages", kept)

    def finish(self, stage: str, key: str, *, seconds: float) -> None:
        """Note that a stage's files are all written."""
        self._change("stages", {**self.manifest().stages, stage: key})
        self.add_time(stage, seconds=seconds)

    def add_time(self, stage: str, *, seconds: float) -> None:
        """Note how long something took, beside what it took before; no result depends on it."""
        timings_file = self.path / TIMINGS
        timings = _timings(timings_file)
        timings[stage] = round(timings.get(stage, 0.0) + seconds, 3)
        write_file(timings_file, canonical_json(timings))

    def note_measured(self, file: str, made_with: MadeWith) -> None:
        """Note what the record in `file` is about to be measured with."""
        before = {name: one.model_dump() for name, one in self.manifest().measured.items()}
        self._change("measured", {**before, file: made_with.model_dump()})

    def _change(self, field: str, value: object) -> None:
        """Write run.json with one field changed, and with those that only a later version knows."""
        fields = json.loads(record_text(self.path / RUN))
        write_file(self.path / RUN, canonical_json({**fields, field: value}))


def _timings(path: Path) -> dict[str, float]:
    """Seconds by stage; none where the file is damaged, since no result depends on them."""
    if not path.is_file():
        return {}
    try:
        fields = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or not all(map(_is_duration, fields.values())):
        _LOG.warning("%s is damaged; the times of the stages before are lost", path)
        return {}
    return fields


def _is_duration(seconds: object) -> bool:
    return isinstance(seconds, int | float) and 0 <= seconds < _MAX_SECONDS


def kept_manifest(path: Path) -> RunManifest | None:
    """run.json of a folder that is to hold a run; None where one can begin.

    Raises:
        RunFolderError: the folder holds files that are no run.
    """
    if path.is_file():
        raise RunFolderError(f"{path} is a file; give the name of a folder")
    if os.path.lexists(path / RUN):
        manifest = RunFolder(path=path).manifest()
        require_plain_folder(path)
        return manifest
    if path.is_dir() and any(_foreign(path)):
        raise RunFolderError(f"{path} is not empty and not a run; give the name of a new folder")
    return None


def open_run_folder(path: Path, manifest: RunManifest) -> RunFolder:
    """Create the folder of a run, or continue it where it is the same run.

    Raises:
        RunFolderError: the folder holds something else: another run, or files that are no run.
    """
    existing = kept_manifest(path)
    if existing is None:
        write_file(path / RUN, manifest.to_json())
    else:
        require_same_run(path, theirs=all_facts(existing), ours=all_facts(manifest))
        if existing.options != manifest.options:
            changed = {"options": manifest.options, "command": manifest.command}
            write_file(path / RUN, existing.model_copy(update=changed).to_json())
    return RunFolder(path=path)


def stage_key(stage: str, *parts: object) -> str:
    """Digest of everything that a stage's result depends on."""
    return sha256_text(json.dumps([stage, *parts], sort_keys=True, default=str))


def _foreign(path: Path) -> list[Path]:
    """What is in a folder, but for what a run leaves that died at its very start."""
    return [
        p for p in path.iterdir() if p.name != LOCK and not p.name.startswith(f".{RUN}{SCRATCH}")
    ]


_JOURNAL = ".journal-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """Completions as they are written, a few at a time, so that a cut run loses little."""

    path: Path

    def read(self, planned: Sequence[Sequence[Slot]], *, are_whole: bool) -> list[Completion]:
        """The planned completions written so far; the file is cut behind the last of them.

        It ends before a line that is torn, damaged, of a completion that is not planned or stands
        there already, or of a group that comes before the one before it is done.

        Args:
            are_whole: A group counts only where all of it is there.
        """
        if not self.path.is_file():
            return []
        lines = self.path.read_bytes().split(b"\n")[:-1]
        rows: list[Completion] = []
        for slots in planned:
            left = set(slots)
            own: list[Completion] = []
            for line in lines[len(rows) : len(rows) + len(slots)]:
                row = _completion(line)
                if row is None or row.slot not in left:
                    break
                left.remove(row.slot)
                own.append(row)
            if not left or not are_whole:
                rows += own
            if left:
                break
        os.truncate(self.path, sum(len(line) + 1 for line in lines[: len(rows)]))
        return rows

    def append(self, batch: Sequence[Completion]) -> None:
        """Add some completions, on disk when this returns."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write("".join(row.to_line() for row in batch).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise output_error(self.path, error) from error


def journal_of(path: Path, key: str) -> Journal:
    """The journal of the completions that stage key `key` stands for, in a run's folder."""
    return journal_in(path / COMPLETIONS, key)


def remove_journals(path: Path) -> None:
    """Delete a run's journals, once the completions stand in their own files."""
    remove_journals_in(path / COMPLETIONS)


def journal_in(folder: Path, key: str) -> Journal:
    """The journal, in a folder of completions, of those that `key` stands for."""
    return Journal(path=folder / f"{_JOURNAL}{key[:16]}.jsonl")


def remove_journals_in(folder: Path) -> None:
    """Delete the journals in a folder of completions, once these stand in their own files."""
    for journal in folder.glob(f"{_JOURNAL}*"):
        journal.unlink(missing_ok=True)


def _completion(line: bytes) -> Completion | None:
    try:
        return Completion.model_validate_json(line)
    except ValueError:
        return None
