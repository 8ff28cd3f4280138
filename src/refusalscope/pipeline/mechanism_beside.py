"""The part of the mechanism that reads other runs: candidates of models of one width."""

from pathlib import Path

from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from refusalscope.directions.direction import load_direction
from refusalscope.errors import RunFolderError
from refusalscope.mechanism.geometry import cosine_table
from refusalscope.pipeline.mechanism_study import Study
from refusalscope.results.files import sha256_file, write_file
from refusalscope.results.mechanism_folder import BETWEEN_MODELS
from refusalscope.results.mechanism_maps import BetweenModels, OtherRun
from refusalscope.results.records import DirectionFacts, ExtractionFacts
from refusalscope.results.run_records import (
    DIRECTION_TENSOR,
    EXTRACTION,
    MEAN_DIFFERENCES,
    RunRecords,
    read_record,
    read_run,
)


def beside_digest(source: str) -> list[str]:
    """What identifies the candidates and the direction of another run."""
    return [sha256_file(Path(source) / name) for name in (MEAN_DIFFERENCES, DIRECTION_TENSOR)]


def require_beside(source: str, *, d_model: int) -> None:
    """Check that candidates of another run can be compared with ones of this width.

    Raises:
        RunFolderError: it is no run, or has no direction.
        DirectionFileError: its model has another width.
    """
    _chosen(read_run(Path(source)))
    load_direction(Path(source), d_model=d_model)


def do_beside(study: Study) -> None:
    """Cosines of this run's candidates with those of other runs."""
    run, sources = study.run, study.options.beside
    own = _candidates(run.folder.path, study.position)
    others: list[OtherRun] = []
    with run.progress.stage("beside", len(sources), unit="runs") as advance:
        for source in sources:
            records, folder = read_run(Path(source)), Path(source)
            chosen = _chosen(records)
            vector = load_direction(folder, d_model=run.chat.d_model).vector
            others.append(
                OtherRun(
                    run=source,
                    model=records.manifest.model.name,
                    weights_sha256=records.manifest.model.weights_sha256,
                    position=chosen.position,
                    layer=chosen.layer,
                    directions=cosine_table(study.direction.vector[None], vector[None])[0][0],
                    between_layers=cosine_table(own, _candidates(folder, chosen.position)),
                )
            )
            advance(1)
    record = BetweenModels(position=study.position, layer=study.layer, others=tuple(others))
    write_file(run.folder.path / BETWEEN_MODELS, record.to_json())


def _chosen(records: RunRecords) -> DirectionFacts:
    if records.direction is None:
        raise RunFolderError(
            f"the run in {records.folder} has no direction to compare with; finish it with: "
            f"refusalscope select {records.folder}"
        )
    return records.direction


def _candidates(folder: Path, position: int) -> Float[Tensor, "layer d_model"]:
    """The candidates of a run at one position."""
    positions = read_record(ExtractionFacts, folder / EXTRACTION).positions
    return load_file(folder / MEAN_DIFFERENCES)["mean_differences"][positions.index(position)]
