"""What a training has reached, in one file, so that it goes on where it was cut.

Weights and the optimizer's moments are tensors of a safetensors file; recipe, stage and step are
its metadata. The file is replaced whole, so a training killed at any moment loses the steps since
the last one.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from transformers import PreTrainedModel

from refusalscope.errors import OutputError
from refusalscope.results.files import write_file

_STATE = "state.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


class TrainingState:
    """A training under way, in a folder beside its output.

    Attributes:
        folder: Holds the state and whatever is finished before the end; removed at the end.
        stage: The stage that is under way, by its number.
        step: Steps of it that are done.
    """

    def __init__(self, out: Path, recipe: dict[str, object]) -> None:
        """Find what an earlier training to `out` has left.

        Raises:
            OutputError: it was one of another recipe.
        """
        self.folder = out.parent / f".{out.name}.training"
        self.stage = 0
        self.step = 0
        self._recipe = json.dumps(recipe, sort_keys=True)
        self._file = self.folder / _STATE
        if self._file.exists():
            with safe_open(self._file, "pt") as file:
                facts = file.metadata()
            if facts["recipe"] != self._recipe:
                raise OutputError(
                    f"{self.folder} holds an unfinished training of another recipe; remove it, or "
                    f"give another --out"
                )
            self.stage, self.step = int(facts["stage"]), int(facts["step"])

    @property
    def is_new(self) -> bool:
        """Whether nothing is done yet."""
        return not self._file.exists()

    def restore_weights(self, model: PreTrainedModel) -> None:
        """Put what was reached into the model, if anything was."""
        if self._file.exists():
            tensors = self._read()
            with torch.no_grad():
                for name, weight in model.named_parameters():
                    weight.copy_(tensors[f"weight.{name}"])

    def restore_moments(self, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
        """Put the moments of a stage under way into its optimizer."""
        if not self.step:
            return
        tensors = self._read()
        moments = {
            index: {"step": torch.tensor(float(self.step))}
            | {moment: tensors[f"{moment}.{name}"] for moment in _MOMENTS}
            for index, (name, _) in enumerate(model.named_parameters())
        }
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})

    def keep(self, model: PreTrainedModel, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Write down that `step` steps of this stage are done."""
        self.step = step
        tensors: dict[str, Tensor] = {}
        for name, weight in model.named_parameters():
            tensors[f"weight.{name}"] = weight.detach()
            own: dict[str, Any] = optimizer.state[weight]
            tensors.update({f"{m}.{name}": own[m] for m in _MOMENTS})
        self._write(tensors)

    def finish_stage(self, model: PreTrainedModel) -> None:
        """Write down that this stage is done."""
        self.stage, self.step = self.stage + 1, 0
        self._write({f"weight.{name}": w.detach() for name, w in model.named_parameters()})

    def remove(self) -> None:
        """Remove the folder; the training is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> dict[str, Tensor]:
        with safe_open(self._file, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def _write(self, tensors: dict[str, Tensor]) -> None:
        facts = {"recipe": self._recipe, "stage": str(self.stage), "step": str(self.step)}
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        write_file(self._file, save(whole, metadata=facts))
