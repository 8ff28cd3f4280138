"""The plan of a run: what each stage would hold, do and take, from a config alone."""

from pathlib import Path

import torch
from transformers import PretrainedConfig

from refusalscope.errors import InputError
from refusalscope.models.chat_model import (
    has_tokenizer,
    load_chat_model,
    load_tokenizer,
    local_folder,
    read_config,
)
from refusalscope.models.load_options import LoadOptions
from refusalscope.models.meta_model import MetaModel, meta_model
from refusalscope.models.miniature import shrunken_config
from refusalscope.organisms.organism import bundled_organism, read_organism, resolve_model
from refusalscope.pipeline.answer_lengths import DEFAULT_NEW_TOKENS, ORGANISM_SUFFIX_TOKENS
from refusalscope.pipeline.plan.measured import (
    Measured,
    machine_bytes,
    measure,
    peak_of_look,
    resident_bytes,
)
from refusalscope.pipeline.plan.memory import Held, Memory
from refusalscope.pipeline.plan.options import PlanOptions
from refusalscope.pipeline.plan.place import Machine, Placed
from refusalscope.pipeline.plan.work import TYPICAL_SHARE, Work, work_of_stages
from refusalscope.results.plan_records import (
    Plan,
    PlannedMachine,
    PlannedModel,
    PlannedRange,
    PlannedStage,
)
from refusalscope.weights.span import CHUNK
from refusalscope.weights.tensor_pool import MOST_THREADS

_GB = 10**9
_CHUNKS = 4
"""Of a tensor that is edited, in a thread: as read, in float32, as written, and its projection."""
_MINIATURES = 3
"""The miniature on which an edit is proven, its edited tensors, and what it computes."""


def plan(options: PlanOptions, *, process: int | None = None) -> Plan:
    """Plan a run of a model, of which config.json is enough.

    Args:
        process: Bytes of a process that has loaded its libraries; measured here if not given.

    Raises:
        ModelLoadError: there is no model, or its config is none of a decoder.
        InputError: options that do not go together.
    """
    _require_sizes(options)
    source = resolve_model(options.model)
    load = LoadOptions(revision=options.revision, trust_remote_code=options.trust_remote_code)
    folder = local_folder(source, options.revision, files=("config.json", "*.py"))
    config = read_config(folder, source, load)
    on_cpu = options.device_memory is None
    if on_cpu and process is None:
        process = process_bytes(folder, load)
    meta = meta_model(config, _dtype(options, config, on_cpu=on_cpu), source)
    return plan_of(
        options,
        meta,
        measure(meta),
        folder=folder,
        process=(process or 0) if on_cpu else 0,
    )


def plan_of(
    options: PlanOptions, meta: MetaModel, measured: Measured, *, folder: Path, process: int
) -> Plan:
    """The plan of a model that is measured already."""
    on_cpu = options.device_memory is None
    organism = read_organism(folder)
    own = DEFAULT_NEW_TOKENS if organism is None else organism.max_new_tokens
    max_new_tokens = options.max_new_tokens or own
    n_suffix = 0 if organism is None else ORGANISM_SUFFIX_TOKENS
    machine = Machine(
        facts=PlannedMachine(
            kind="cpu" if on_cpu else "accelerators",
            n_devices=options.devices,
            device_memory=machine_bytes()
            if options.device_memory is None
            else round(options.device_memory * _GB),
        ),
        measured=measured,
        process=process,
    )
    memory = Memory(
        measured=measured,
        options=options,
        max_new_tokens=max_new_tokens,
        n_suffix=n_suffix,
        on_cpu=on_cpu,
    )
    work = work_of_stages(options, measured, max_new_tokens=max_new_tokens, n_suffix=n_suffix)
    held = {"load": _loading(meta, measured, on_cpu=on_cpu), **memory.by_stage()}
    stages = [
        _stage(name, _placed(name, own, machine, options), work.get(name), options)
        for name, own in held.items()
    ]
    edit = machine.streamed(_streamed_bytes(meta.model.config))
    return Plan(
        model=PlannedModel(
            name=options.model.rstrip("/").rsplit("/", 1)[-1],
            architecture=type(meta.model).__name__,
            dtype=str(meta.model.dtype).removeprefix("torch."),
            n_parameters=measured.size.n_parameters,
            n_active=measured.size.n_active,
            weight_bytes=measured.weights,
            cache_bytes_per_token=measured.cache_per_token,
            n_layers=measured.size.n_layers,
            d_model=measured.size.d_model,
            d_vocab=measured.size.d_vocab,
        ),
        machine=machine.facts,
        stages=(*stages, _stage("weights orthogonalize", edit, None, options)),
        assumptions=_assumptions(options, measured, max_new_tokens, on_cpu=on_cpu),
    )


def process_bytes(folder: Path, options: LoadOptions | None = None) -> int | None:
    """What a process holds that has imported everything, run a model, and has its tokenizer.

    The model is the bundled organism, whose own six megabytes are in it.

    Args:
        folder: Of the model that is planned for, whose tokenizer is loaded if it has one.
    """
    import refusalscope.pipeline.run  # noqa: F401, PLC0415 - all that a run imports

    held = [load_chat_model(str(bundled_organism()))]
    if has_tokenizer(folder):
        tokenizer = load_tokenizer(folder, str(folder), options or LoadOptions())
        tokenizer("a")
        return resident_bytes()
    del held
    return resident_bytes()


def _require_sizes(options: PlanOptions) -> None:
    given = (options.shortest_prompt, options.prompt_tokens, options.longest_prompt)
    if list(given) != sorted(given):
        raise InputError(
            f"--shortest-prompt, --prompt-tokens and --longest-prompt are {given[0]}, {given[1]} "
            f"and {given[2]}; expected them in ascending order"
        )
    if options.positions > options.shortest_prompt:
        raise InputError(
            f"--positions is {options.positions} and --shortest-prompt {options.shortest_prompt}; "
            f"the template's last tokens are among those of a prompt"
        )
    if options.device_memory is None and (options.devices, options.tensor_parallel) != (1, 1):
        raise InputError(
            "--devices and --tensor-parallel are about accelerators; give their --device-memory"
        )
    if options.engine != "vllm" and options.tensor_parallel != 1:
        raise InputError("--tensor-parallel is about vLLM; give --engine vllm with it")


def _dtype(options: PlanOptions, config: PretrainedConfig, *, on_cpu: bool) -> torch.dtype:
    if options.dtype != "auto":
        return getattr(torch, options.dtype)
    stored = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    return torch.float32 if on_cpu or not isinstance(stored, torch.dtype) else stored


def _loading(meta: MetaModel, measured: Measured, *, on_cpu: bool) -> Held:
    """What is held beside all the weights while they are looked at."""
    dtype = meta.model.dtype
    stored = getattr(meta.model.config, "dtype", None)
    peak = peak_of_look(measured.size, dtype, is_mapped=on_cpu and stored in (None, dtype))
    return Held(activations=max(0, peak - measured.weights))


def _streamed_bytes(config: PretrainedConfig) -> int:
    """Chunks of the tensors under way, and the miniature on which the edit is proven."""
    small = meta_model(shrunken_config(config), torch.float32, "a miniature")
    proof = _MINIATURES * small.size.n_parameters * small.itemsize
    return proof + MOST_THREADS * _CHUNKS * CHUNK * torch.float32.itemsize


def _placed(name: str, held: Held, machine: Machine, options: PlanOptions) -> Placed:
    if name == "complete" and options.engine == "vllm":
        return machine.by_vllm(held, options.tensor_parallel)
    return machine.placed(held, can_halve=name != "load")


def _stage(name: str, placed: Placed, work: Work | None, options: PlanOptions) -> PlannedStage:
    return PlannedStage(
        name=name,
        memory=placed.memory,
        total=placed.memory.total,
        passes=None if work is None else work.passes,
        tokens=None if work is None else work.tokens,
        flops=None if work is None else work.flops,
        seconds=None if work is None else _seconds(work, placed, options),
        halvings=placed.halvings,
        fits=placed.fits,
        where=placed.where,
    )


def _seconds(work: Work, placed: Placed, options: PlanOptions) -> PlannedRange | None:
    """Operations over speed; tokens that are written also wait for the weights to be read.

    None where the speed that this takes was not given, and where it does not fit.
    """
    if options.tflops is None or work.flops is None or not placed.fits:
        return None
    speed = options.tflops * 1e12 * options.utilisation * placed.n_working
    waiting = 0.0
    if work.written.at_most:
        if options.bandwidth is None:
            return None
        steps = work.written.at_most / min(options.batch_size, work.passes.at_most)
        # Layer after layer, all weights are read on whatever devices; divided, a share on each.
        waiting = steps * placed.read / (options.bandwidth * _GB)
    typical = work.flops.typical
    return PlannedRange(
        at_most=work.flops.at_most / speed + waiting,
        typical=None if typical is None else typical / speed,
    )


def _assumptions(
    options: PlanOptions, measured: Measured, max_new_tokens: int, *, on_cpu: bool
) -> tuple[str, ...]:
    """What the numbers rest on, for whoever reads them."""
    said = [
        f"prompts of {options.shortest_prompt} to {options.longest_prompt} tokens, "
        f"{options.prompt_tokens} on average, {options.shared_tokens} of them shared; answers of "
        f"{max_new_tokens} tokens at most",
        "selection scores all of the grid"
        if options.all_scores
        else f"typical is {TYPICAL_SHARE:.0%} of the full grid of scores: what the bundled "
        f"organism took; --all-scores takes all, and more memory",
        "attention holds its result alone, as fused kernels do",
    ]
    if not on_cpu:
        said.append("what the driver and the allocator's gaps take was not measured")
    if options.engine == "vllm":
        said.append("of vLLM weights and cache count; what its passes hold was not measured")
    if options.tflops is not None:
        said.append(
            f"times: {options.utilisation:.0%} of {options.tflops:g} TFLOP/s a device is assumed"
        )
    if measured.size.n_active is None:
        said.append("the config does not say how many experts a token takes: no operations")
    return tuple(said)
