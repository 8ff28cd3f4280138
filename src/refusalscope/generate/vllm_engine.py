"""Completions by vLLM, under the interventions of a plan: the same tokens, proven before the first.

The interventions are hooks inside vLLM's worker, at the modules that write to the residual stream
by the anatomy measured here; vLLM's transformers backend calls them as transformers does. Before
anything is written, log-probabilities of probe texts under every condition are compared with those
of the model here. Where they differ, an error names the first module that writes something else.

Conditions are taken one after another, since vLLM packs all rows into one: within a group of the
plan, so that another engine can go on with what is there.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from refusalscope.errors import EngineError
from refusalscope.generate.completions import CompletionJob, Plan, asked_of, completion_of
from refusalscope.generate.greedy import end_of_turn_ids, generated
from refusalscope.generate.stream import Asked
from refusalscope.generate.vllm_process import VllmProcess, vllm_process
from refusalscope.generate.vllm_proof import N_PROBED, Probe, differs, probes_of, tolerance_of
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.batches import pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.observe_outputs import observe_outputs
from refusalscope.models.prompts import Prompt
from refusalscope.models.scored_text import ScoredText
from refusalscope.results.engine_records import EngineProof, ProofRow
from refusalscope.results.records import Completion, Slot
from refusalscope.results.scratch import temporary_folder

_MISFIT = 1e-3
"""Of a writer's largest projection: a larger difference is another output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmOptions:
    """How vLLM is run.

    Attributes:
        python: The interpreter of its environment; None is this one.
        tensor_parallel: Devices that each layer is divided over.
    """

    python: str | None = None
    tensor_parallel: int = 1
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmEngine:
    """A loaded engine that was proven on the prompts of a plan.

    Attributes:
        names: Of the modules where interventions act, as vLLM calls them.
        scratch: Where vectors are handed over.
    """

    chat: ChatModel
    process: VllmProcess
    names: Mapping[str, str]
    scratch: Path
    version: str

    def complete(
        self,
        planned: Plan,
        *,
        done: Iterable[Slot] = (),
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[list[Completion]]:
        """Yield completions as they are done; see `completions.complete`.

        Raises:
            EngineError: vLLM ended in the middle.
        """
        for group in planned.without(done):
            for condition in planned.interventions:
                jobs = [job for job in group if job.condition == condition]
                if not jobs:
                    continue
                with self.edited(planned.interventions[condition]):
                    for row in written(self.process, self.chat, planned, jobs):
                        yield [row]
                        if progress:
                            progress(1)

    @contextmanager
    def edited(self, intervention: Intervention | None) -> Generator[None]:
        """An intervention on every row, and none of it afterwards."""
        if intervention is None:
            yield
            return
        path = self._handed_over(intervention.vector)
        anatomy = self.chat.anatomy
        if intervention.layer is None:
            writers = [self.names[name] for name in _writers(self.chat)]
            self._call("refusalscope_ablate", path, writers, self.names[anatomy.layers[0]])
        else:
            layer = self.names[anatomy.layers[intervention.layer]]
            self._call("refusalscope_add", path, layer)
        yield
        self._call("refusalscope_restore")

    def first_misfit(self, text: ScoredText, direction: Float[Tensor, " d_model"]) -> str | None:
        """The first module that writes something else than here, along a direction."""
        names = [writer.module for writer in self.chat.anatomy.all_writers]
        path = self._handed_over(direction)
        self._call("refusalscope_watch", path, [self.names[name] for name in names])
        self.process.scores([text])
        theirs = self._call("refusalscope_restore")
        assert isinstance(theirs, dict), "what was watched, by module"
        for name, own in _along(self.chat, text, direction, names).items():
            other = torch.tensor(theirs.get(self.names[name], []), dtype=torch.float64)
            if other.shape != own.shape:
                return name
            if (other - own).abs().max() > _MISFIT * max(1.0, own.abs().max().item()):
                return name
        return None

    def _handed_over(self, vector: Float[Tensor, " d_model"]) -> str:
        path = self.scratch / "vector.safetensors"
        save_file({"vector": vector.detach().float().cpu().contiguous()}, path)
        return str(path)

    def _call(self, method: str, *args: object) -> object:
        return self.process.one("call", method=method, args=list(args))["found"]


def written(
    process: VllmProcess, chat: ChatModel, planned: Plan, jobs: Sequence[CompletionJob]
) -> Iterator[Completion]:
    """Completions of jobs as they are done, under whatever the engine runs by now."""
    options = planned.options
    stops = end_of_turn_ids(chat) if options.stop_at_end_of_turn else frozenset[int]()
    asked = [asked_of(chat, job, planned.interventions, options) for job in jobs]
    prompts = [one.prompt for one in asked]
    for place, ids in process.written(prompts, [one.limit for one in asked], stops):
        yield completion_of(jobs[place], generated(chat, ids, stops))


def _writers(chat: ChatModel) -> list[str]:
    return list(dict.fromkeys(writer.module for writer in chat.anatomy.writers))


def _along(
    chat: ChatModel,
    text: ScoredText,
    direction: Float[Tensor, " d_model"],
    names: Sequence[str],
) -> dict[str, Float[Tensor, " pos"]]:
    """How far what each module writes lies along a direction, at every token of a text."""
    found: dict[str, Tensor] = {}

    def observer(name: str) -> Callable[[Tensor], None]:
        def observe(hidden: Tensor) -> None:
            rows = hidden.detach().reshape(-1, hidden.shape[-1]).float()
            found.setdefault(name, (rows @ direction.float().to(rows.device)).double().cpu())

        return observe

    prompt = Prompt(ids=text.ids, n_post=0)
    batch = pad([prompt], pad_id=chat.pad_id, device=chat.device)
    seen = [(chat.model.get_submodule(name), observer(name)) for name in dict.fromkeys(names)]
    with torch.inference_mode(), observe_outputs(seen):
        chat.model(input_ids=batch.input_ids, use_cache=False)
    return found


@contextmanager
def vllm_engine(
    chat: ChatModel, planned: Plan, options: VllmOptions, *, log: Path
) -> Generator[tuple[VllmEngine, EngineProof]]:
    """The model of `chat` in vLLM, proven on the plan's own prompts.

    While it is there, the model of `chat` leaves the accelerator to it.

    Raises:
        EngineError: it cannot load the model, has other modules, or answers otherwise.
        InputError: there is no such interpreter.
    """
    asked = all_asked(chat, planned)
    probes = probes_of(chat, planned.interventions, asked)
    with (
        out_of_the_way(chat),  # until vLLM has ended
        vllm_process(options.python, log=log) as process,
        temporary_folder() as scratch,
    ):
        loaded = process.one(
            "load",
            hooks=True,
            **load_options(chat, chat.folder, asked, options),
            model_impl="transformers",
            enforce_eager=True,  # hooks do not run inside a captured graph
        )
        engine = VllmEngine(
            chat=chat,
            process=process,
            names=their_names(chat, loaded["modules"]),
            scratch=scratch,
            version=loaded["version"],
        )
        yield engine, _proof(engine, probes)


def all_asked(chat: ChatModel, planned: Plan) -> list[Asked]:
    """What a plan asks of whatever writes it."""
    jobs = [job for group in planned.groups for job in group]
    return [asked_of(chat, job, planned.interventions, planned.options) for job in jobs]


def load_options(
    chat: ChatModel, folder: Path, asked: Sequence[Asked], options: VllmOptions
) -> dict[str, object]:
    """How vLLM loads a checkpoint of the model's architecture, for these prompts and limits."""
    longest = max((len(one.prompt.ids) + max(one.limit, N_PROBED + 1) for one in asked), default=1)
    return {
        "model": str(folder),
        "tokenizer": str(chat.folder),
        "skip_tokenizer_init": True,
        "dtype": str(chat.model.dtype).removeprefix("torch."),
        "max_model_len": min(longest, chat.context or longest),
        "tensor_parallel_size": options.tensor_parallel,
        "trust_remote_code": options.trust_remote_code,
    }


@contextmanager
def out_of_the_way(chat: ChatModel) -> Generator[None]:
    """The model in the memory of the CPU; one that is spread over devices stays where it is."""
    device = chat.device
    if device.type in ("cpu", "meta") or getattr(chat.model, "hf_device_map", None):
        yield
        return
    chat.model.to("cpu")  # pyright: ignore[reportArgumentType] # its stub takes no device
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        yield
    finally:
        chat.model.to(device)  # pyright: ignore[reportArgumentType]


def their_names(chat: ChatModel, modules: Sequence[str]) -> dict[str, str]:
    """What vLLM calls the modules where interventions act.

    Its transformers backend holds the model without its head as `model`.

    Raises:
        EngineError: it has no such module.
    """
    anatomy, there = chat.anatomy, set(modules)
    base = f"{chat.model.base_model_prefix}."
    names: dict[str, str] = {}
    for own in [*anatomy.layers, *(writer.module for writer in anatomy.all_writers)]:
        theirs = [name for name in (own, f"model.{own.removeprefix(base)}") if name in there]
        if not theirs:
            raise EngineError(
                f"vLLM's {type(chat.model).__name__} has no module {own}, which the interventions "
                f"act on: it renames it or fuses it away; use --engine transformers"
            )
        names[own] = theirs[0]
    return names


def _proof(engine: VllmEngine, probes: Sequence[Probe]) -> EngineProof:
    """Log-probabilities under every condition, against those of the model here.

    Raises:
        EngineError: they differ by more than the tolerance; it names the first module that does.
    """
    tolerance = tolerance_of(engine.chat)
    rows: list[ProofRow] = []
    for probe in probes:
        with engine.edited(probe.edit):
            row = probe.compared(engine.process.scores(probe.texts))
        if row.largest > tolerance:
            where = _where_it_differs(engine, probe)
            raise EngineError(f"{differs(row, tolerance)}; {where}; use --engine transformers")
        rows.append(row)
    return EngineProof(engine="vllm", version=engine.version, tolerance=tolerance, rows=tuple(rows))


def _where_it_differs(engine: VllmEngine, probe: Probe) -> str:
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(engine.chat.d_model, generator=generator)
    misfit = engine.first_misfit(probe.texts[0], direction / direction.norm())
    return (
        "every module writes the same without an intervention, so it does not act there as here"
        if misfit is None
        else f"the first module that writes something else is {misfit}"
    )
