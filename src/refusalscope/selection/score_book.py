"""Scores of candidates prompt by prompt, kept as they come, so that none is computed twice."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusalscope.results.files import output_error
from refusalscope.selection.scorer import SCORE_NAMES, Candidate, Expected, ScoreName

Entry = tuple[ScoreName, Candidate, int, float]
"""A score: its name, its candidate, the place of its prompt, and the number (NaN where none)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What the passes without intervention found.

    Attributes:
        metrics: The refusal metric of every prompt.
        shortcuts: What the architecture allows; see `engine.edited_passes`.
        sweeps: What it cost to find out.
    """

    metrics: tuple[float, ...]
    shortcuts: frozenset[str]
    sweeps: float


class ScoreBook:
    """Scores by prompt, in memory, and in a file where one is named.

    The file is JSON Lines: a line that says what the scores belong to, one for the baseline, one
    for estimates where they were asked for, and then one for each pass, on disk when `add` returns.
    A file of other scores is begun anew; a torn last line is cut off.
    """

    def __init__(self, path: Path | None = None, *, key: str = "") -> None:
        """Open a book, with what the file has of the same `key`.

        Raises:
            OutputError: the file cannot be written.
        """
        self._path = path
        self._known: dict[tuple[ScoreName, Candidate], dict[int, float]] = defaultdict(dict)
        self.baseline: Baseline | None = None
        self.expected: Expected | None = None
        self.expected_sweeps = 0.0
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

    def set_expected(self, expected: Expected, *, sweeps: float) -> None:
        """Take in what scores will probably be, and what it cost to estimate them."""
        self.expected, self.expected_sweeps = expected, sweeps
        rows = [[name, *candidate, value] for (name, candidate), value in expected.items()]
        self._append({"expected": rows, "sweeps": sweeps})

    def adopt(self, other: "ScoreBook", candidates: Iterable[Candidate]) -> None:
        """Take over what another book knows of candidates that are the same vectors in both.

        The model, the prompts and the formulas must be the same too.
        """
        if self.baseline is None and other.baseline is not None:
            self.set_baseline(other.baseline)
        for candidate in candidates:
            for name in SCORE_NAMES:
                known = self._known[name, candidate]
                theirs = other.known(name, candidate)
                entries: list[Entry] = [
                    (name, candidate, prompt, score)
                    for prompt, score in sorted(theirs.items())
                    if prompt not in known
                ]
                if entries:
                    self.add(entries)

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
            if "expected" in line:
                self.expected = {
                    (_score_name(name), (int(position), int(layer))): float(value)
                    for name, position, layer, value in line["expected"]
                }
                self.expected_sweeps = float(line["sweeps"])
                return True
            for name, position, layer, prompt, score in line["scores"]:
                number = math.nan if score is None else float(score)
                candidate = (int(position), int(layer))
                self._known[_score_name(name), candidate][int(prompt)] = number
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


def _score_name(name: object) -> ScoreName:
    """The name of a score.

    Raises:
        ValueError: it is none.
    """
    for own in SCORE_NAMES:
        if own == name:
            return own
    raise ValueError(f"{name!r} is no score")


def _json(line: bytes) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
