"""The direction taken out of a model's weights, in memory or on disk, with what is left of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from refusalscope.directions.direction import Direction
from refusalscope.errors import AnatomyError, InputError
from refusalscope.library.given import as_path
from refusalscope.library.html import html_table
from refusalscope.library.model import Model, require_model
from refusalscope.models import hooks
from refusalscope.pipeline import weights
from refusalscope.results.edit_records import EditRecord, EditVerdict
from refusalscope.results.files import sha256_text
from refusalscope.weights.edited_copy import edited_copy
from refusalscope.weights.leftover import coverage, largest, verdict_of


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Edit:
    """An edit of a model's weights, and the measurement of what it left.

    Attributes:
        model: The edited model; None where the edit was made on disk.
        folder: The edited checkpoint; None where the edit was made in memory.
        coverage: Share of the tensors that write to the residual stream in which nothing is left
            along the direction, from 0 to 1.
        leftover: The largest share of its part along the direction that a tensor kept; 1.0 where
            one was not edited, None where it is not known.
        verdict: `complete`, or `partial as asked` where strength or layers ask for less.
        n_edited: Tensors that were edited.
        record: What stands in the folder's edit.json; None in memory.

    Examples:
        >>> import refusalscope as rs
        >>> import torch
        >>> model = rs.load("organism:llama3-aft")
        >>> r = rs.Direction(vector=torch.arange(1.0, 97.0))
        >>> edit = rs.orthogonalize(model, r)
        >>> edit.coverage, edit.verdict
        (1.0, 'complete')
    """

    model: Model | None
    folder: Path | None
    coverage: float
    leftover: float | None
    verdict: EditVerdict
    n_edited: int
    record: EditRecord | None

    def __repr__(self) -> str:
        where = "in memory" if self.folder is None else str(self.folder)
        return f"Edit({where}, {self.n_edited} tensors, {self.verdict})"

    def _repr_html_(self) -> str:
        left = "not known" if self.leftover is None else f"{self.leftover:.1e}"
        rows = [
            ("verdict", self.verdict),
            ("tensors edited", str(self.n_edited)),
            ("coverage", f"{self.coverage:.3f}"),
            ("largest leftover", left),
        ]
        where = "in memory" if self.folder is None else str(self.folder)
        return html_table(f"Weight orthogonalization, {where}", rows)


def orthogonalize(
    model: Model | str | Path,
    direction: Direction | Sequence[Direction],
    *,
    out: str | Path | None = None,
    strength: float = 1.0,
    layers: tuple[int, int] | None = None,
    untie: bool = True,
) -> Edit:
    r"""Take a direction out of every tensor that writes to the residual stream.

    $W' = W - s \hat r \hat r^\top W$, weight orthogonalization: Arditi et al. (2024), section 4.1
    and appendix E, https://arxiv.org/abs/2406.11717. Sign and length of the direction do not
    matter. The model that is given is left as it is. In memory a copy is edited, so that both are
    held; a checkpoint on disk is edited as a stream, some rows of a tensor at a time.

    Args:
        model: What `load` returned; or, with `out`, what `load` takes, which is then not loaded.
        direction: One, or several of which all that they span is removed.
        out: Folder to create, with the edited checkpoint, a model card and edit.json. Without it
            the edit is in memory.
        strength: $s$; 1.0 removes the whole component.
        layers: First and last decoder layer to edit; None for all of them and the embedding.
        untie: Give a tied unembedding its own unedited copy, because directional ablation does not
            touch the unembedding.

    Raises:
        InputError: no `out` for a model that is not loaded, a loaded model whose weights are no
            longer those of its name or that has interventions open, no such layers, or a strength
            of 0.
        NumericalError: the direction has another width, or numbers would not be finite.
        AnatomyError: more is left than was asked for; nothing is kept then.
        OutputError: `out` exists, or cannot be written.

    Examples:
        >>> import refusalscope as rs
        >>> import torch
        >>> r = rs.Direction(vector=torch.arange(1.0, 97.0))
        >>> edit = rs.orthogonalize("organism:llama3-aft", r, out="edited")
        >>> edit.verdict, (edit.folder / "edit.json").is_file()
        ('complete', True)
    """
    directions = [direction] if isinstance(direction, Direction) else list(direction)
    for one in directions:
        if not isinstance(one, Direction):
            raise InputError(f"a direction is a {type(one).__name__}; expected a Direction")
    if out is not None:
        return _on_disk(
            model,
            directions,
            as_path(out, what="out"),
            strength=strength,
            layers=layers,
            untie=untie,
        )
    if isinstance(model, str | Path):
        raise InputError(
            f"{str(model)!r} is not loaded; give out= for an edit on disk, or load it first"
        )
    return _in_memory(
        require_model(model), directions, strength=strength, layers=layers, untie=untie
    )


def _on_disk(
    model: Model | str | Path,
    directions: Sequence[Direction],
    out: Path,
    *,
    strength: float,
    layers: tuple[int, int] | None,
    untie: bool,
) -> Edit:
    if isinstance(model, str | Path):
        source = weights.model_folder(str(model))
    else:
        own = require_model(model)
        if own.is_edited:
            raise InputError(
                f"this model's weights are no longer those of {own.source}, which an edit on disk "
                f"reads; edit {own.source} itself, with all directions at once"
            )
        source = weights.model_folder(
            own.source,
            revision=own.options.revision,
            trust_remote_code=own.options.trust_remote_code,
        )
    record = weights.orthogonalize(
        source, out, directions, strength=strength, layers=layers, untie=untie
    )
    assert record.coverage is not None, "an orthogonalization has a coverage"
    assert record.verdict is not None, "and a verdict"
    return Edit(
        model=None,
        folder=out,
        coverage=record.coverage,
        leftover=record.leftover,
        verdict=record.verdict,
        n_edited=len(record.tensors),
        record=record,
    )


def _in_memory(
    model: Model,
    directions: Sequence[Direction],
    *,
    strength: float,
    layers: tuple[int, int] | None,
    untie: bool,
) -> Edit:
    _require_no_intervention(model.chat.model)
    made = edited_copy(
        model.chat,
        [one.vector for one in directions],
        strength=strength,
        layers=layers,
        untie=untie,
    )
    rows = made.leftovers
    verdict = verdict_of(rows)
    if verdict == "incomplete":
        raise AnatomyError(
            f"{largest(rows) or 0.0:.2g} of what a tensor had along the direction is left, "
            f"{abs(1.0 - strength):.2g} was asked for: report the model"
        )
    what = [one.vector.double().tolist() for one in directions]
    digest = sha256_text(f"{model.chat.weights_sha256} {what} {strength} {layers} {untie}")
    chat = replace(made.chat, weights_sha256=digest)
    return Edit(
        model=replace(model, chat=chat, is_edited=True),
        folder=None,
        coverage=coverage(rows),
        leftover=largest(rows),
        verdict=verdict,
        n_edited=made.n_edited,
        record=None,
    )


def _require_no_intervention(model: nn.Module) -> None:
    """Refuse to copy a model with our hooks on it: the copy would keep them for good.

    Raises:
        InputError: an intervention is open.
    """
    for module in model.modules():
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):
            if getattr(hook, "__module__", None) == hooks.__name__:
                raise InputError(
                    "an intervention is open on the model; orthogonalize it outside the context"
                )
