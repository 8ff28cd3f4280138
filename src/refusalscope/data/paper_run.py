"""A run folder that the paper's own code wrote, read into plain values.

Layout of https://github.com/andyrdt/refusal_direction, `pipeline/runs/MODEL`. Its words become
ours: refusal_score is bypass, steering_score is induce, kl_div_score is kl; `actadd` is addition on
harmless instructions and subtraction everywhere else; a "jailbreak" flag of the phrase judge means
that the model did not refuse, one of Llama Guard that the completion is unsafe.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.data.json_fields import (
    Fields,
    flag_field,
    integer_field,
    number_field,
    object_of,
    read_json,
    rows_of,
    text_field,
)
from refusalscope.errors import InputError
from refusalscope.results.records import CandidateScores, Condition

MEAN_DIFFERENCES = "generate_directions/mean_diffs.pt"
SCORES = "select_direction/direction_evaluations.json"
KEPT_SCORES = "select_direction/direction_evaluations_filtered.json"
CHOSEN = "direction_metadata.json"
DIRECTION = "direction.pt"
COMPLETIONS = "completions"
LOSSES = "loss_evals"

WITHHELD = "[withheld]"
"""Stands for a completion where a copy of a run leaves it out."""

_REFUSAL_FLAG = "is_jailbreak_substring_matching"
_SAFETY_FLAG = "is_jailbreak_llamaguard2"
_HARMLESS = "harmless"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperCompletion:
    """One completion with the flags that the paper's judges gave it."""

    instruction: str
    category: str | None
    completion: str | None
    """None where the copy withholds it."""
    is_refusal: bool | None
    """Of the phrase judge; None where it was not run."""
    is_safe: bool | None
    """Of Llama Guard 2; None where it was not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperCompletions:
    """The completions of one dataset under one condition, in file order."""

    dataset: str
    condition: Condition
    rows: tuple[PaperCompletion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperLoss:
    """Cross-entropy of one dataset under one condition, in nats per token."""

    dataset: str
    condition: Condition
    loss: float
    n_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PaperRun:
    """Everything such a folder holds; a part that is not there is None."""

    name: str
    """Of the folder: the last part of the model's id, in lower case in the published runs."""
    scores: tuple[CandidateScores, ...] | None
    """All candidates, in file order; NaN is None; `rejected` is always None, they do not say."""
    kept_scores: tuple[CandidateScores, ...] | None
    """Those that passed the paper's filter, best first."""
    chosen: tuple[int, int] | None
    """Position (-1 is the last) and layer."""
    mean_differences: Float[Tensor, "pos layer d_model"] | None
    """All candidate directions, the earliest position first."""
    direction: Float[Tensor, " d_model"] | None
    completions: tuple[PaperCompletions, ...] | None
    losses: tuple[PaperLoss, ...] | None

    @property
    def n_layers(self) -> int | None:
        """Number of layers that have candidates; None where nothing tells."""
        if self.mean_differences is not None:
            return int(self.mean_differences.shape[1])
        return None if self.scores is None else 1 + max(row.layer for row in self.scores)


def read_paper_run(folder: Path) -> PaperRun:
    """Read a run folder of the paper's code.

    Tensors are read with `weights_only=True` to the CPU, in the dtype they have. Of completions the
    `_evaluations` file is read where there is one, the `_completions` file otherwise.

    Raises:
        InputError: `folder` holds no part of a run, or a part is malformed; the message names it.
    """
    run = PaperRun(
        name=folder.resolve().name,
        scores=_if_there(folder / SCORES, _read_scores),
        kept_scores=_if_there(folder / KEPT_SCORES, _read_scores),
        chosen=_if_there(folder / CHOSEN, _read_chosen),
        mean_differences=_if_there(folder / MEAN_DIFFERENCES, _read_mean_differences),
        direction=_if_there(folder / DIRECTION, _read_direction),
        completions=_if_there(folder / COMPLETIONS, _read_completions),
        losses=_if_there(folder / LOSSES, _read_losses),
    )
    if run.scores is run.chosen is run.mean_differences is run.completions is run.losses is None:
        raise InputError(
            f"{folder} is not a run of the paper's code; expected {SCORES}, {CHOSEN}, "
            f"{MEAN_DIFFERENCES}, {COMPLETIONS} or {LOSSES} in it"
        )
    _require_same_candidates(run, folder)
    return run


def _require_same_candidates(run: PaperRun, folder: Path) -> None:
    if run.scores is None:
        return
    pairs = {(row.position, row.layer) for row in run.scores}
    if run.chosen is not None and run.chosen not in pairs:
        raise InputError(
            f"{folder / CHOSEN} names position {run.chosen[0]}, layer {run.chosen[1]}, which "
            f"{SCORES} has no row for; the files are not of one run"
        )
    if run.mean_differences is None:
        return
    n_positions, n_layers, _ = run.mean_differences.shape
    expected = {(p, layer) for p in range(-n_positions, 0) for layer in range(n_layers)}
    if pairs != expected:
        raise InputError(
            f"{folder / MEAN_DIFFERENCES} has {n_positions} positions x {n_layers} layers and "
            f"{SCORES} {len(pairs)} candidates that are not these; the files are not of one run"
        )


def _if_there(path: Path, read: Callable[[Path], T]) -> T | None:
    return read(path) if path.exists() else None


def _read_scores(path: Path) -> tuple[CandidateScores, ...]:
    rows = tuple(
        CandidateScores(
            position=integer_field(row, "position", place),
            layer=integer_field(row, "layer", place),
            bypass=number_field(row, "refusal_score", place),
            induce=number_field(row, "steering_score", place),
            kl=number_field(row, "kl_div_score", place),
            rejected=None,
        )
        for place, row in rows_of(read_json(path), path)
    )
    if not rows and path.name == Path(SCORES).name:
        raise InputError(f"{path} has no candidates; expected one row for each")
    return rows


def _read_chosen(path: Path) -> tuple[int, int]:
    value = object_of(read_json(path), str(path))
    return integer_field(value, "pos", str(path)), integer_field(value, "layer", str(path))


def _read_completions(folder: Path) -> tuple[PaperCompletions, ...]:
    found = {}
    # Evaluations come last and replace completions of the same dataset and condition.
    for ending in ("_completions.json", "_evaluations.json"):
        for path in sorted(folder.glob(f"*{ending}")):
            dataset, _, label = path.name.removesuffix(ending).rpartition("_")
            condition = _condition(label, dataset)
            if dataset and condition is not None:
                found[dataset, condition] = path
    return tuple(
        PaperCompletions(dataset=dataset, condition=condition, rows=_read_rows(path))
        for (dataset, condition), path in sorted(found.items())
    )


def _read_rows(path: Path) -> tuple[PaperCompletion, ...]:
    value = read_json(path)
    if isinstance(value, dict):
        value = value.get("completions")
    return tuple(_completion(row, place) for place, row in rows_of(value, path))


def _completion(row: Fields, place: str) -> PaperCompletion:
    category = row.get("category")
    response = text_field(row, "response", place)
    bypassed = flag_field(row, _REFUSAL_FLAG, place)
    unsafe = flag_field(row, _SAFETY_FLAG, place)
    return PaperCompletion(
        instruction=text_field(row, "prompt", place),
        category=None if category is None else str(category),
        completion=None if response == WITHHELD else response,
        is_refusal=None if bypassed is None else not bypassed,
        is_safe=None if unsafe is None else not unsafe,
    )


def _read_losses(folder: Path) -> tuple[PaperLoss, ...]:
    losses = []
    for path in sorted(folder.glob("*_loss_eval.json")):
        # The code measures all losses under the conditions that bypass refusal, Alpaca's too.
        condition = _condition(path.name.removesuffix("_loss_eval.json"), dataset="")
        if condition is None:
            continue
        for dataset, value in object_of(read_json(path), str(path)).items():
            place = f"{path}, {dataset}"
            row = object_of(value, place)
            loss = number_field(row, "ce_loss", place)
            if loss is None:
                raise InputError(f"{place}: ce_loss is not a finite number; expected one")
            n_tokens = integer_field(row, "n_tokens", place)
            losses.append(
                PaperLoss(dataset=dataset, condition=condition, loss=loss, n_tokens=n_tokens)
            )
    return tuple(losses)


def _condition(label: str, dataset: str) -> Condition | None:
    if label == "actadd":
        return "addition" if dataset == _HARMLESS else "subtraction"
    words: dict[str, Condition] = {"baseline": "baseline", "ablation": "ablation"}
    return words.get(label)


def _read_mean_differences(path: Path) -> Float[Tensor, "pos layer d_model"]:
    return _read_tensor(path, n_axes=3, axes="positions, layers and d_model")


def _read_direction(path: Path) -> Float[Tensor, " d_model"]:
    return _read_tensor(path, n_axes=1, axes="d_model")


def _read_tensor(path: Path, *, n_axes: int, axes: str) -> Tensor:
    try:
        value = torch.load(  # noqa: TID251 - the paper's code knows no other format
            path, map_location="cpu", weights_only=True
        )
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path} is not a tensor that torch can read ({reason}); get the file again (a pointer "
            f"of Git LFS is not the file)"
        ) from error
    if not isinstance(value, Tensor) or value.ndim != n_axes or not value.is_floating_point():
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"{path} holds {shape}; expected a float tensor with axes {axes}")
    # A view is saved with its whole storage: direction.pt is as large as mean_diffs.pt.
    return value.clone()
