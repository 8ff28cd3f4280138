"""What writes the completions of a run: transformers, or vLLM once it is proven."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from shutil import which

from refusalscope.errors import InputError
from refusalscope.generate.completions import Plan, Write, by_transformers
from refusalscope.generate.vllm_engine import VllmOptions, vllm_engine
from refusalscope.generate.vllm_process import no_python
from refusalscope.generate.vllm_weights import vllm_by_weights
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.options import RunOptions
from refusalscope.results.engine_records import EngineProof
from refusalscope.results.files import write_file
from refusalscope.results.run_records import ENGINE_PROOF, read_if_there

VLLM_LOG = "vllm.log"


def require_engine(options: RunOptions) -> None:
    """Refuse options on what writes completions that could not be followed, before all work.

    Raises:
        InputError: options of vLLM without it, or no such interpreter.
    """
    python = options.vllm_python
    if options.engine != "vllm":
        about_vllm = {
            "--vllm-python": python is not None,
            "--tensor-parallel": options.tensor_parallel != 1,
            "--by": options.by != "hooks",
        }
        for flag, is_given in about_vllm.items():
            if is_given:
                raise InputError(f"{flag} is about vLLM; give --engine vllm with it")
        return
    if python is not None and which(python) is None:
        raise no_python(python, "there is no such program")


def as_written(options: RunOptions, planned: Plan) -> Plan:
    """A plan as the engine that is named keeps to it.

    Edited checkpoints are served one condition after another, so that all is one group, in any
    order; vLLM promises no bytes that a group would have to be whole for.
    """
    if (options.engine, options.by) != ("vllm", "weights"):
        return planned
    jobs = [job for group in planned.groups for job in group]
    return replace(planned, groups=[jobs] if jobs else [], are_whole=False)


@contextmanager
def writing(run: RunContext, planned: Plan) -> Generator[Write]:
    """The engine that the run's options name.

    Raises:
        EngineError: vLLM cannot run the model, or answers otherwise.
    """
    if run.options.engine == "transformers":
        with by_transformers(run.chat) as write:
            yield write
        return
    options = VllmOptions(
        python=run.options.vllm_python,
        tensor_parallel=run.options.tensor_parallel,
        trust_remote_code=run.options.trust_remote_code,
    )
    folder = run.folder.path

    def proven(found: EngineProof) -> None:
        kept = read_if_there(EngineProof, folder / ENGINE_PROOF)
        write_file(folder / ENGINE_PROOF, found.beside(kept).to_json())

    if run.options.by == "weights":
        with vllm_by_weights(
            run.chat, planned, options, log=folder / VLLM_LOG, proven=proven
        ) as served:
            yield served.complete
        return
    with vllm_engine(run.chat, planned, options, log=folder / VLLM_LOG) as (engine, proof):
        proven(proof)
        yield engine.complete
