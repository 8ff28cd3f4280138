"""The direction as a sum of a few features of a dictionary, such as a sparse autoencoder's."""

from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from refusalscope.directions.direction import unit_direction
from refusalscope.errors import InputError
from refusalscope.measures.meaning.record import Feature, Features, MeaningOptions
from refusalscope.results.given_files import require_regular
from refusalscope.results.tensor_header import header_bytes

_N_RANDOM = 20


def features_of(direction: Float[Tensor, " d_model"], options: MeaningOptions) -> Features | None:
    """The features that make up most of the direction; None without a dictionary.

    Raises:
        InputError: the file is no dictionary of vectors as wide as the direction.
    """
    if options.dictionary is None:
        return None
    vectors = _decoder(Path(options.dictionary), d_model=len(direction))
    units = torch.nn.functional.normalize(vectors.double(), dim=1)
    unit = unit_direction(direction).double()
    unit = unit / unit.norm()  # float32 has rounded it
    chosen, explained = pursue(units, unit, n=options.n_features)
    generator = torch.Generator().manual_seed(options.seed)
    random = torch.randn(_N_RANDOM, len(unit), generator=generator, dtype=torch.float64)
    of_random = [pursue(units, own / own.norm(), n=len(chosen))[1][-1] for own in random]
    return Features(
        source=options.dictionary,
        n_features=len(units),
        rows=tuple(
            Feature(index=index, cosine=round(float(units[index] @ unit), 9), explained=share)
            for index, share in zip(chosen, explained, strict=True)
        ),
        chance=sum(of_random) / len(of_random),
    )


def pursue(
    units: Float[Tensor, "feature d_model"], target: Float[Tensor, " d_model"], *, n: int
) -> tuple[list[int], list[float]]:
    """Orthogonal matching pursuit: features, and the share of the target that they make up.

    The feature most along what is left, of either sign, then the best sum of all chosen ones: Pati,
    Rezaiifar and Krishnaprasad (1993).

    Args:
        units: Of length one or zero.
        target: Of length one.
    """
    chosen: list[int] = []
    explained: list[float] = []
    left = target
    for _ in range(min(n, len(units), len(target))):
        along = (units @ left).abs()
        along[chosen] = 0
        best = int(along.argmax())
        if float(along[best]) < 1e-9:  # nothing is left, or nothing that a feature has a part in
            break
        chosen.append(best)
        basis, _ = torch.linalg.qr(units[chosen].T)
        left = target - basis @ (basis.T @ target)
        explained.append(round(1 - float(left @ left), 9))
    if not chosen:
        return [0], [0.0]
    return chosen, explained


def _decoder(path: Path, *, d_model: int) -> Float[Tensor, "feature d_model"]:
    """The only matrix of a file that has a side as wide as the stream; features are its rows.

    A square matrix is read as rows.
    """
    require_regular(path)
    try:
        header_bytes(path)
        with safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 # its own method
            fits = [n for n, shape in shapes.items() if len(shape) == 2 and d_model in shape]
            named = [n for n in fits if "dec" in n.lower()]
            (name,) = named if len(fits) > 1 and len(named) == 1 else fits
            matrix = file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is not a whole safetensors file ({error}); copy it again"
        ) from error
    except ValueError as error:
        raise InputError(
            f"{path} does not have one matrix with a side of {d_model}, as wide as the stream; "
            f"give the decoder of a dictionary of this model's layer, as the only matrix or with "
            f"'dec' in its name"
        ) from error
    if not matrix.is_floating_point() or not bool(matrix.float().isfinite().all()):
        raise InputError(
            f"{path}: the matrix {name!r} holds {matrix.dtype} numbers, some not finite or no "
            f"fractions; give a decoder of 16 or 32 bit floats"
        )
    return matrix.float() if matrix.shape[1] == d_model else matrix.float().T.contiguous()
