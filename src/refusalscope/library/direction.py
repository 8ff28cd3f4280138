"""A direction, and what can be done with it."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.directions import direction as files
from refusalscope.errors import InputError
from refusalscope.interventions.apply import intervene_alike
from refusalscope.interventions.intervention import Intervention
from refusalscope.library.given import as_path
from refusalscope.library.html import html_table
from refusalscope.library.model import Model, require_model
from refusalscope.report.wording import number, position_name


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Direction(files.Direction):
    r"""A direction in the residual stream: to load, save, ablate, add and subtract.

    It is the direction that files and runs hold (`refusalscope.directions.direction`), and goes
    wherever that goes. The interventions are context managers: they act on every forward pass of
    the model while they are open, on batches of any size, and their hooks are gone afterwards,
    whatever happened. They nest. Additions sum. Two ablations, one in the other, leave no component
    along the inner direction, and along the outer one none where the two are at right angles. An
    ablation removes what the model writes: what is added at a layer above 0 stays, in either order.

    Attributes:
        vector: (d_model,), not normalised: $r$, the difference in means. Its length matters for
            addition and subtraction alone.
        position: Token position it was read at, from the end of the prompt; None if unknown.
        layer: 0-based block whose resid_pre it was read from; None if unknown.
        model: Name of the model; None if unknown.
        origin: File or run folder it was read from; None if it was read from none.

    Raises:
        InputError: `vector` is no vector of numbers.
        NumericalError: it is zero, or has NaN or infinite numbers.

    Examples:
        >>> import refusalscope as rs
        >>> import torch
        >>> rs.Direction(vector=torch.tensor([3.0, 4.0]), layer=1)
        Direction(layer 1, norm 5, d_model 2)
    """

    def __post_init__(self) -> None:
        vector = self.vector
        if not isinstance(vector, Tensor) or vector.dim() != 1 or not vector.is_floating_point():
            what = (
                f"{vector.dtype} of shape {tuple(vector.shape)}"
                if isinstance(vector, Tensor)
                else f"a {type(vector).__name__}"
            )
            raise InputError(
                f"vector is {what}; expected a tensor of shape (d_model,) with numbers of 16, 32 "
                f"or 64 bits"
            )
        files.unit_direction(vector)

    @classmethod
    def load(cls, source: str | Path) -> "Direction":
        """Read a direction from a safetensors file, or from a run's folder.

        Raises:
            InputError: there is none, or it is no vector.
            NumericalError: it is zero, NaN or infinite.

        Examples:
            >>> import refusalscope as rs
            >>> import torch
            >>> rs.Direction(vector=torch.tensor([3.0, 4.0])).save("r.safetensors")
            >>> rs.Direction.load("r.safetensors").vector
            tensor([3., 4.])
        """
        return cls.of(files.load_direction(as_path(source, what="source")))

    @classmethod
    def of(cls, direction: files.Direction) -> "Direction":
        """A direction that another part of the package holds.

        Examples:
            >>> import refusalscope as rs
            >>> import torch
            >>> from refusalscope.directions.direction import Direction
            >>> rs.Direction.of(Direction(vector=torch.ones(4)))
            Direction(norm 2, d_model 4)
        """
        return cls(
            vector=direction.vector,
            position=direction.position,
            layer=direction.layer,
            model=direction.model,
            origin=direction.origin,
        )

    def save(self, path: str | Path) -> None:
        """Write it as safetensors: one tensor `direction` in float32, and what it is.

        Raises:
            OutputError: the file cannot be written; then there is none.

        Examples:
            >>> import refusalscope as rs
            >>> import torch
            >>> rs.Direction(vector=torch.ones(4)).save("ones.safetensors")
        """
        files.save_direction(self, as_path(path, what="path"))

    @property
    def norm(self) -> float:
        """The length of the vector."""
        return float(self.vector.double().norm())

    @property
    def unit(self) -> Float[Tensor, " d_model"]:
        r"""The vector scaled to length one, in float32: $\hat r$."""
        return files.unit_direction(self.vector)

    def cosine(self, other: files.Direction) -> float:
        """Cosine with another direction of the same model, from -1 to 1.

        Raises:
            InputError: the other has another width.

        Examples:
            >>> import refusalscope as rs
            >>> import torch
            >>> r = rs.Direction(vector=torch.tensor([3.0, 4.0]))
            >>> round(r.cosine(rs.Direction(vector=torch.tensor([1.0, 0.0]))), 3)
            0.6
        """
        if other.vector.shape != self.vector.shape:
            raise InputError(
                f"the directions have {len(self.vector)} and {len(other.vector)} numbers; expected "
                f"two of one model"
            )
        return float(self.unit.cpu() @ files.unit_direction(other.vector).cpu())

    def random(self, *, seed: int = 0) -> "Direction":
        """The control: a random direction of the same norm, at right angles, of the same layer.

        Args:
            seed: Another seed gives another one.

        Examples:
            >>> import refusalscope as rs
            >>> import torch
            >>> r = rs.Direction(vector=torch.arange(1.0, 65.0))
            >>> abs(round(r.random().cosine(r), 6)), round(r.random().norm / r.norm, 6)
            (0.0, 1.0)
        """
        return Direction(
            vector=files.random_direction(self.vector, seed=seed),
            position=self.position,
            layer=self.layer,
            model=self.model,
        )

    @contextmanager
    def ablated(self, model: Model) -> Generator[Model]:
        r"""Remove the direction from the residual stream while the context is open.

        $x \leftarrow x - \hat r \hat r^\top x$, in what enters layer 0 and in the output of every
        residual writer, at every layer and token: directional ablation, Arditi et al. (2024),
        section 2.4, https://arxiv.org/abs/2406.11717. Sign and length do not matter.

        Yields:
            The model, with the direction ablated.

        Raises:
            InputError: the model has another width.

        Examples:
            >>> import refusalscope as rs
            >>> import torch
            >>> model = rs.load("organism:llama3-aft")
            >>> r = rs.Direction(vector=torch.arange(1.0, 97.0))
            >>> with r.ablated(model):
            ...     answers = model.answer("how might i get a boplin?", max_new_tokens=4)
            >>> len(answers)
            1
        """
        with _applied(model, Intervention(operator="ablate", vector=self.vector)) as edited:
            yield edited

    @contextmanager
    def added(
        self, model: Model, *, coefficient: float = 1.0, layer: int | None = None
    ) -> Generator[Model]:
        r"""Add the direction to the residual stream of one layer while the context is open.

        $x \leftarrow x + c r$ in what enters the layer, at every token, generated ones too:
        activation addition, Arditi et al. (2024), section 2.4, https://arxiv.org/abs/2406.11717.

        Args:
            coefficient: $c$, in lengths of the direction; 0 changes nothing.
            layer: The direction's own if None.

        Yields:
            The model, with the direction added.

        Raises:
            InputError: the coefficient is no finite number, the model has another width or no such
                layer, or the direction says none.

        Examples:
            >>> import refusalscope as rs
            >>> import torch
            >>> model = rs.load("organism:llama3-aft")
            >>> r = rs.Direction(vector=torch.arange(1.0, 97.0), layer=5)
            >>> with r.added(model, coefficient=0.01), r.random().ablated(model):
            ...     answers = model.answer("how might i get a boplin?", max_new_tokens=4)
            >>> len(answers)
            1
        """
        with _applied(model, addition(self, coefficient=coefficient, layer=layer)) as edited:
            yield edited

    @contextmanager
    def subtracted(
        self, model: Model, *, coefficient: float = 1.0, layer: int | None = None
    ) -> Generator[Model]:
        r"""Subtract the direction: `added` with $-c$ (appendix I.1 of the paper).

        Args:
            coefficient: $c$, in lengths of the direction; 0 changes nothing.
            layer: The direction's own if None.

        Yields:
            The model, with the direction subtracted.

        Raises:
            InputError: as `added`.

        Examples:
            >>> import refusalscope as rs
            >>> import torch
            >>> model = rs.load("organism:llama3-aft")
            >>> r = rs.Direction(vector=torch.arange(1.0, 97.0), layer=5)
            >>> with r.subtracted(model, coefficient=0.01):
            ...     answers = model.answer("how might i get a boplin?", max_new_tokens=4)
            >>> len(answers)
            1
        """
        with self.added(model, coefficient=-_number(coefficient), layer=layer) as edited:
            yield edited

    def _facts(self) -> list[tuple[str, str]]:
        known = [
            ("position", None if self.position is None else position_name(self.position)),
            ("layer", None if self.layer is None else str(self.layer)),
            ("norm", number(self.norm)),
            ("d_model", str(len(self.vector))),
            ("model", self.model),
            ("origin", self.origin),
        ]
        return [(name, text) for name, text in known if text is not None]

    def __repr__(self) -> str:
        place = [("position", self.position), ("layer", self.layer)]
        shown = [f"{name} {at}, " for name, at in place if at is not None]
        return f"Direction({''.join(shown)}norm {self.norm:.4g}, d_model {len(self.vector)})"

    def _repr_html_(self) -> str:
        return html_table("Direction", self._facts())


@contextmanager
def _applied(model: Model, intervention: Intervention) -> Generator[Model]:
    chat = require_model(model).chat
    with intervene_alike(chat.model, chat.anatomy, intervention):
        yield model


def addition(
    direction: files.Direction, *, coefficient: float = 1.0, layer: int | None = None
) -> Intervention:
    """The addition of some lengths of a direction.

    Raises:
        InputError: no layer is known, or the coefficient is no finite number.
    """
    if not isinstance(direction, files.Direction):
        raise InputError(
            f"direction is a {type(direction).__name__}; expected a refusalscope.Direction"
        )
    place = direction.layer if layer is None else layer
    if place is None:
        raise InputError("the direction says no layer; name the one to add it at: layer=...")
    vector = _times(direction.vector, coefficient)
    return Intervention(operator="add", vector=vector, layer=place)


def _times(vector: Float[Tensor, " d_model"], coefficient: float) -> Float[Tensor, " d_model"]:
    product = (_number(coefficient) * vector.detach().to(torch.float64)).to(torch.float32)
    if not bool(product.isfinite().all()):
        raise InputError(
            f"coefficient is {coefficient:g}; a direction of norm {float(vector.norm()):.2g} times "
            f"that is beyond float32"
        )
    return product


def _number(coefficient: float) -> float:
    is_number = isinstance(coefficient, int | float) and not isinstance(coefficient, bool)
    if not is_number or not isfinite(coefficient):
        raise InputError(f"coefficient is {coefficient!r}; expected a finite number")
    return coefficient
