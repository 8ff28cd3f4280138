"""Scores of candidates prompt by prompt, kept as they come, so that none is computed twice."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusalscope.results.files import output_error
from refusalscope.selection.scorer import SCORE_NAMES, Candidate, ScoreName

Entry = tuple[ScoreName, Candidate, int, float]
"""A score: its name, its candidate, the place of its prompt, and the number (NaN where none)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What the passes without intervention found.

    Attributes:
        metrics: The refusal metric of every prompt.
        shortcuts: What the architecture allows; see `selection.passes`.
        sweeps: What it cost to find out.
    """

    metrics: tuple[float, ...]
    shortcuts: frozenset[str]
    sweeps: float


class ScoreBook:
    """Scores by prompt, in memory, and in a file where one is named.

    The file is JSON Lines: a line that says what the scores belong to, one for the baseline, and
    then one for each pass, on disk when `add` returns. A file of other scores is begun anew; a torn
    last line is cut off.
    """

    def __init__(self, path: Path | None = None, *, key: str = "") -> None:
        """Open a book, with what the file has of the same `key`.

        Raises:
            OutputError: the file cannot be written.
        """
        self._path = path
        self._known: dict[tuple[ScoreName, Candidate], dict[int, float]] = defaultdict(dict)
        self.baseline: Baseline | None = None
        if path is None:
            return
        try:
            self._read(path, key)
        except OSError as error:
            raise output_error(path, error) from error

    def known(self, name: ScoreName, candidate: Candidate) -> Mapping[int, float]:
        """The scores of a candidate by prompt."""
        return self._known[name, candidate]

    def add(self, entries: Sequence[Entry]) -> None:
        """Take in what one pass has scored."""
        for name, candidate, prompt, score in entries:
            self._known[name, candidate][prompt] = score
        rows = [
            [name, *candidate, prompt, score if math.isfinite(score) else None]
            for name, candidate, prompt, score in entries
        ]
        self._append({"scores": rows})

    def set_baseline(self, baseline: Baseline) -> None:
        """Take in what the passes without intervention found."""
        self.baseline = baseline
        self._append(
            {
                "baseline": baseline.metrics,
                "shortcuts": sorted(baseline.shortcuts),
                "sweeps": baseline.sweeps,
            }
        )

    def _read(self, path: Path, key: str) -> None:
        lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
        whole = 0
        if lines and _json(lines[0]) == {"key": key}:
            whole = 1
            while whole < len(lines) and self._take(_json(lines[whole])):
                whole += 1
        if not whole:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
            self._append({"key": key})
        elif path.stat().st_size != (size := sum(len(line) + 1 for line in lines[:whole])):
            os.truncate(path, size)

    def _take(self, line: Any) -> bool:  # noqa: ANN401 - any JSON value
        """Take in one line of the file; False where it is none of ours."""
        try:
            if "baseline" in line:
                self.baseline = Baseline(
                    metrics=tuple(float(one) for one in line["baseline"]),
                    shortcuts=frozenset(str(one) for one in line["shortcuts"]),
                    sweeps=float(line["sweeps"]),
                )
                return True
            for name, position, layer, prompt, score in line["scores"]:
                if name not in SCORE_NAMES:
                    return False
                number = math.nan if score is None else float(score)
                self._known[name, (int(position), int(layer))][int(prompt)] = number
        except (KeyError, TypeError, ValueError):
            return False
        return True

    def _append(self, line: dict[str, object]) -> None:
        if self._path is None:
            return
        try:
            with self._path.open("ab") as file:
                file.write(json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise output_error(self._path, error) from error


def _json(line: bytes) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
