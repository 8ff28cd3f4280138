"""What `refusalscope anatomy` shows: the writers of a model and the proof that they are all."""

from dataclasses import dataclass

from refusalscope.errors import AnatomyError
from refusalscope.models.anatomy import Anatomy, measure_anatomy
from refusalscope.models.chat_model import load_model
from refusalscope.models.load_options import LoadOptions
from refusalscope.organisms.organism import resolve_model
from refusalscope.weights.proof import Proof, prove


@dataclass(frozen=True, slots=True, kw_only=True)
class AnatomyReport:
    """An anatomy with its proof."""

    model: str
    architecture: str
    anatomy: Anatomy
    proof: Proof

    def as_dict(self) -> dict[str, object]:
        """The report as JSON values."""
        return {
            "schema": 1,
            "model": self.model,
            "architecture": self.architecture,
            "n_layers": self.anatomy.n_layers,
            "d_model": self.anatomy.d_model,
            "is_tied": self.anatomy.is_tied,
            "writers": [
                {
                    "layer": writer.layer,
                    "site": writer.site,
                    "kind": writer.site.removesuffix("_out"),
                    "module": writer.module,
                    "coefficient": writer.coefficient,
                    "tensors": [feeder.parameter for feeder in writer.feeders],
                }
                for writer in self.anatomy.all_writers
            ],
            "coverage": self.proof.coverage,
            "leftover": self.proof.leftover,
            "leftover_before": self.proof.leftover_before,
            "tolerance": self.proof.tolerance,
            "seed": self.proof.seed,
        }

    def lines(self) -> list[str]:
        """The report as text, one line a writer."""
        rows = [
            f"{self.architecture}: {self.anatomy.n_layers} layers, d_model {self.anatomy.d_model}, "
            f"{'tied' if self.anatomy.is_tied else 'untied'} embedding"
        ]
        for writer in self.anatomy.all_writers:
            layer = "-" if writer.layer is None else str(writer.layer)
            factor = "" if writer.coefficient == 1.0 else f" x {writer.coefficient:g}"
            tensors = ", ".join(feeder.parameter for feeder in writer.feeders)
            rows.append(f"{layer:>4}  {writer.site:<10} {writer.module}{factor}  [{tensors}]")
        proof = self.proof
        rows.append(
            f"proof: {proof.n_writers_proven} of {proof.n_writers} writers and "
            f"{proof.n_tensors_proven} of {proof.n_tensors} tensors; "
            f"{proof.leftover:.1e} of a random direction is left in the stream "
            f"(before the edit {proof.leftover_before:.1e}, rounding {proof.tolerance:.1e})"
        )
        return rows


def anatomy_report(model: str, *, seed: int = 0, trust_remote_code: bool = False) -> AnatomyReport:
    """Measure a model's anatomy and prove it.

    Raises:
        ModelLoadError: the model cannot be loaded.
        AnatomyError: a writer is not found, or the proof fails.
    """
    options = LoadOptions(trust_remote_code=trust_remote_code)
    loaded = load_model(resolve_model(model), options)
    anatomy = measure_anatomy(loaded, seed=seed)
    proof = prove(loaded, anatomy, seed=seed)
    if not proof.is_proven:
        raise AnatomyError(
            f"the anatomy of {model} is not proven: {proof.n_writers_proven} of "
            f"{proof.n_writers} writers and {proof.n_tensors_proven} of {proof.n_tensors} tensors "
            f"are, and {proof.leftover:.1e} of a random direction is left in the stream (rounding "
            f"is {proof.tolerance:.1e}); weight edits of this model would be incomplete: report "
            f"the architecture"
        )
    return AnatomyReport(
        model=model, architecture=type(loaded).__name__, anatomy=anatomy, proof=proof
    )
