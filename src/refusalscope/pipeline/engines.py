"""What writes the completions of a run: transformers, or vLLM once it is proven."""

from collections.abc import Generator
from contextlib import contextmanager
from shutil import which

from refusalscope.errors import InputError
from refusalscope.generate.completions import Plan, Write, by_transformers
from refusalscope.generate.vllm_engine import VllmOptions, vllm_engine
from refusalscope.generate.vllm_process import no_python
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.options import RunOptions
from refusalscope.results.files import write_file
from refusalscope.results.run_records import ENGINE_PROOF

VLLM_LOG = "vllm.log"


def require_engine(options: RunOptions) -> None:
    """Refuse options on what writes completions that could not be followed, before all work.

    Raises:
        InputError: options of vLLM without it, or no such interpreter.
    """
    python = options.vllm_python
    if options.engine != "vllm":
        if python is not None or options.tensor_parallel != 1:
            flag = "--tensor-parallel" if python is None else "--vllm-python"
            raise InputError(f"{flag} is about vLLM; give --engine vllm with it")
        return
    if python is not None and which(python) is None:
        raise no_python(python, "there is no such program")


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
    log = run.folder.path / VLLM_LOG
    with vllm_engine(run.chat, planned, options, log=log) as (engine, proof):
        write_file(run.folder.path / ENGINE_PROOF, proof.to_json())
        yield engine.complete
