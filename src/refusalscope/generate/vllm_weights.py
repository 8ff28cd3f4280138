"""Completions by vLLM of edited checkpoints, where no hook can go, or where graphs are to stay.

For each condition the checkpoint is written to a scratch folder with its intervention in the
weights (ablation as orthogonalization, addition as a bias), served as vLLM serves any model, and
removed. Before a condition's first completion its log-probabilities are compared with those of the
model here under hooks. Conditions are taken one after another over the whole plan, since each is
another engine to load.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from refusalscope.directions.direction import Direction
from refusalscope.errors import EngineError, InputError
from refusalscope.generate.completions import Plan
from refusalscope.generate.vllm_engine import (
    VllmOptions,
    all_asked,
    load_options,
    out_of_the_way,
    written,
)
from refusalscope.generate.vllm_process import VllmProcess, vllm_process
from refusalscope.generate.vllm_proof import Probe, differs, probes_of, tolerance_of
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.chat_model import ChatModel
from refusalscope.results.engine_records import EngineProof, ProofRow
from refusalscope.results.records import Completion, Condition, Slot
from refusalscope.results.scratch import temporary_folder
from refusalscope.weights.bias_addition import add_to_checkpoint, require_bias
from refusalscope.weights.checkpoint_plan import ModelFolder
from refusalscope.weights.stream import orthogonalize_checkpoint, require_editable


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedCheckpoints:
    """An engine for each condition, one at a time.

    Attributes:
        has_graphs: Whether graphs are captured: not on a CPU, where they do not pay.
        probes: What each is compared on, by condition.
        proven: Told what was found of every condition so far, whenever there is another.
    """

    chat: ChatModel
    options: VllmOptions
    log: Path
    has_graphs: bool
    probes: Mapping[Condition, Probe]
    proven: Callable[[EngineProof], None]
    _rows: list[ProofRow] = field(default_factory=list[ProofRow])

    def complete(
        self,
        planned: Plan,
        *,
        done: Iterable[Slot] = (),
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[list[Completion]]:
        """Yield completions as they are done; see `completions.complete`.

        Raises:
            EngineError: vLLM ended in the middle, or answers otherwise under a condition.
        """
        left = [job for group in planned.without(done) for job in group]
        for condition in planned.interventions:
            jobs = [job for job in left if job.condition == condition]
            if not jobs:
                continue
            with self._served(planned, condition) as process:
                for row in written(process, self.chat, planned, jobs):
                    yield [row]
                    if progress:
                        progress(1)

    @contextmanager
    def _served(self, planned: Plan, condition: Condition) -> Generator[VllmProcess]:
        """An engine of the checkpoint under one condition, proven."""
        chat, edit = self.chat, planned.interventions[condition]
        with (
            temporary_folder() as scratch,
            vllm_process(self.options.python, log=self.log) as process,
        ):
            folder = chat.folder
            if edit is not None:
                folder = scratch / "edited"
                write_edited(chat, edit, folder, self.options)
            asked = all_asked(chat, planned)
            loaded = process.one(
                "load",
                hooks=False,
                **load_options(chat, folder, asked, self.options),
                enforce_eager=not self.has_graphs,
            )
            self._prove(process, condition, version=loaded["version"])
            yield process

    def _prove(self, process: VllmProcess, condition: Condition, *, version: str) -> None:
        probe, tolerance = self.probes[condition], tolerance_of(self.chat)
        row = probe.compared(process.scores(probe.texts))
        if row.largest > tolerance:
            edit = "" if probe.edit is None else ", with the edit in the weights"
            raise EngineError(
                f"{differs(row, tolerance)}{edit}; use --by hooks or --engine transformers"
            )
        self._rows.append(row)
        rows = tuple(self._rows)
        found = EngineProof(
            engine="vllm", by="weights", version=version, tolerance=tolerance, rows=rows
        )
        self.proven(found)


@contextmanager
def vllm_by_weights(
    chat: ChatModel,
    planned: Plan,
    options: VllmOptions,
    *,
    log: Path,
    proven: Callable[[EngineProof], None],
) -> Generator[ServedCheckpoints]:
    """The model of `chat` in vLLM, every condition as a checkpoint of its own.

    Raises:
        EngineError: no bias of the architecture can carry an addition: nothing is written.
        ModelLoadError: the model is not a whole safetensors checkpoint of plain numbers.
        AnatomyError: an edit of its tensors would be incomplete.
    """
    _require_editable(chat, planned.interventions, options)
    probes = probes_of(chat, planned.interventions, all_asked(chat, planned))
    has_graphs = chat.device.type != "cpu"
    with out_of_the_way(chat):
        yield ServedCheckpoints(
            chat=chat,
            options=options,
            log=log,
            has_graphs=has_graphs,
            probes={probe.condition: probe for probe in probes},
            proven=proven,
        )


def _require_editable(
    chat: ChatModel,
    interventions: Mapping[Condition, Intervention | None],
    options: VllmOptions,
) -> None:
    """Refuse, before anything is written, what could not be put into the weights."""
    source = _source(chat, options)
    ablated = [edit for edit in interventions.values() if edit and edit.layer is None]
    if ablated:
        require_editable(source, ablated[0].vector)
    tried: set[int] = set()
    for condition, edit in interventions.items():
        layer = None if edit is None else edit.layer
        if layer is None or layer in tried:
            continue
        tried.add(layer)
        try:
            require_bias(source, layer)
        except InputError as error:
            raise EngineError(
                f"{condition} cannot be put into the weights: {error}; give --by hooks"
            ) from error


def write_edited(chat: ChatModel, edit: Intervention, folder: Path, options: VllmOptions) -> None:
    """The checkpoint of a model with an intervention in its weights."""
    source = _source(chat, options)
    direction = Direction(vector=edit.vector, layer=edit.layer)
    if edit.layer is None:
        orthogonalize_checkpoint(source, folder, [direction])
    else:
        add_to_checkpoint(source, folder, direction)


def _source(chat: ChatModel, options: VllmOptions) -> ModelFolder:
    return ModelFolder(folder=chat.folder, trust_remote_code=options.trust_remote_code)
