"""A direction as a control vector of llama.cpp: a GGUF file that adds it to the residual stream.

Needs the extra `gguf`. llama.cpp adds tensor `direction.N` to what comes out of block N, counted
from 0, and reads none for N = 0. Addition to resid_pre of layer l is addition to what comes out of
block l - 1: so the tensor is `direction.{l - 1}`, and layers 0 and 1 cannot be expressed. A control
vector only adds; ablation needs the weights or an adapter.
"""

from pathlib import Path

from gguf import GGUFWriter
from jaxtyping import Float
from torch import Tensor

from refusalscope.directions.direction import Direction, scaled
from refusalscope.errors import InputError, NumericalError, OutputError
from refusalscope.models.chat_model import read_config
from refusalscope.models.load_options import LoadOptions
from refusalscope.results.files import write_file
from refusalscope.results.scratch import temporary_folder
from refusalscope.weights.checkpoint_plan import ModelFolder

_ARCHITECTURE = "controlvector"
FIRST_LAYER = 2
_MOST = 10_000
"""Layers of a model."""


def export_control_vector(
    source: ModelFolder,
    target: Path,
    direction: Direction,
    *,
    layer: int | None = None,
    coefficient: float = 1.0,
) -> tuple[str, int]:
    """Write coefficient * direction as a control vector for a model; only its config is read.

    Args:
        layer: 0-based block whose input it is added to; the direction's own if None.

    Returns:
        The name of the tensor, and the layer.

    Raises:
        ModelLoadError: The model has no readable config.
        InputError: No layer is known, or llama.cpp cannot add at it.
        NumericalError: `direction` has another width than the model.
        OutputError: `target` exists, or cannot be written.
    """
    place = direction.layer if layer is None else layer
    if place is None:
        raise InputError("the direction does not say its layer; give --layer")
    options = LoadOptions(trust_remote_code=source.trust_remote_code)
    config = read_config(source.folder, source.name or str(source.folder), options)
    text = config.get_text_config()
    if direction.vector.shape != (text.hidden_size,):
        raise NumericalError(
            f"direction has {direction.vector.shape[0]} components; the model's d_model is "
            f"{text.hidden_size}"
        )
    name = write_control_vector(
        direction.vector,
        target,
        layer=place,
        n_layers=text.num_hidden_layers,
        model_type=config.model_type,
        coefficient=coefficient,
    )
    return name, place


def write_control_vector(
    vector: Float[Tensor, " d_model"],
    target: Path,
    *,
    layer: int,
    n_layers: int,
    model_type: str,
    coefficient: float = 1.0,
) -> str:
    """Write coefficient * vector so that llama.cpp adds it where resid_pre of `layer` is.

    Args:
        vector: Not normalised; its length is the dose at coefficient 1.
        layer: 0-based block whose input it is added to.
        model_type: What `controlvector.model_hint` says.

    Returns:
        The name of the tensor.

    Raises:
        InputError: llama.cpp cannot add at this layer, or the model has no such layer.
        NumericalError: What would be written is zero, NaN or infinite.
        OutputError: `target` exists, or cannot be written.
    """
    if n_layers > _MOST:
        raise InputError(f"the config says that the model has {n_layers} layers; expected fewer")
    if not FIRST_LAYER <= layer < n_layers:
        raise InputError(
            f"layer is {layer}; llama.cpp adds control vectors after blocks 1 and up, so of this "
            f"model's {n_layers} layers {FIRST_LAYER} to {n_layers - 1} can be given"
        )
    if target.exists():
        raise OutputError(f"{target} exists already; give the name of a file that does not exist")
    name = f"direction.{layer - 1}"
    numbers = scaled(vector, coefficient).float().contiguous().numpy()
    with temporary_folder() as folder:
        path = folder / "vector.gguf"
        writer = GGUFWriter(path, _ARCHITECTURE)
        writer.add_string(f"{_ARCHITECTURE}.model_hint", model_type)
        writer.add_uint32(f"{_ARCHITECTURE}.layer_count", n_layers)
        writer.add_tensor(name, numbers)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        write_file(target, path.read_bytes())
    return name
