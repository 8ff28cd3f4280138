"""What writes the completions of a run: transformers, or vLLM once it is proven."""

from collections.abc import Generator
from contextlib import contextmanager

from refusalscope.generate.completions import Plan, Write, by_transformers
from refusalscope.generate.vllm_engine import VllmOptions, vllm_engine
from refusalscope.pipeline.context import RunContext
from refusalscope.results.files import write_file
from refusalscope.results.run_records import ENGINE_PROOF

VLLM_LOG = "vllm.log"


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
