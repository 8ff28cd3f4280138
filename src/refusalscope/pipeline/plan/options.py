"""What `refusalscope plan` is asked: the options of a run that decide its size, and a machine."""

from typing import Annotated, Literal

from pydantic import Field

from refusalscope.models.load_options import Dtype
from refusalscope.organisms.named import DEFAULT_ORGANISM, ORGANISM_PREFIX
from refusalscope.results.bounds import LARGEST_FACTOR
from refusalscope.results.flags import Flag
from refusalscope.results.numbers import Count, CountOrZero
from refusalscope.results.record import Record

Amount = Annotated[float, Field(gt=0, le=LARGEST_FACTOR)]
Share = Annotated[float, Field(gt=0, le=1)]


class PlanOptions(Record):
    """Sizes of a run and of a machine."""

    model: Annotated[
        str,
        Flag(
            "Folder with config.json, organism:NAME, or hub id.",
            is_argument=True,
            metavar="[MODEL]",
        ),
    ] = ORGANISM_PREFIX + DEFAULT_ORGANISM
    n_train: Annotated[Count, Flag("Training instructions of each kind.")] = 128
    n_val: Annotated[Count, Flag("Validation instructions of each kind.")] = 32
    n_test: Annotated[Count, Flag("Test instructions of each kind.")] = 100
    batch_size: Annotated[Count, Flag("Prompts in a batch.")] = 64
    max_new_tokens: Annotated[Count | None, Flag("Tokens of a completion; 512 if not given.")] = (
        None
    )
    """None is 512, or what an organism says is enough."""
    max_layer_fraction: Annotated[Share, Flag("Candidates come from this share of the layers.")] = (
        0.8
    )
    all_scores: Annotated[bool, Flag("Score every candidate in full.")] = False
    shortest_prompt: Annotated[Count, Flag("Tokens of the shortest prompt, template and all.")] = 34
    prompt_tokens: Annotated[Count, Flag("Tokens of a prompt on average.")] = 42
    longest_prompt: Annotated[Count, Flag("Tokens of the longest prompt.")] = 113
    shared_tokens: Annotated[CountOrZero, Flag("Tokens that all prompts begin with.")] = 24
    positions: Annotated[Count, Flag("Post-instruction tokens of the template.")] = 5
    dtype: Annotated[Dtype, Flag("auto, float32, bfloat16 or float16.")] = "auto"
    devices: Annotated[Count, Flag("Accelerators of the machine.")] = 1
    device_memory: Annotated[
        Amount | None, Flag("Memory of each, in GB of 10^9 bytes; without it this machine's CPU.")
    ] = None
    engine: Annotated[
        Literal["transformers", "vllm"], Flag("What writes completions: transformers, or vllm.")
    ] = "transformers"
    tensor_parallel: Annotated[Count, Flag("Devices that vLLM divides each layer over.")] = 1
    tflops: Annotated[
        Amount | None, Flag("Speed of a device, 10^12 operations a second; without it no times.")
    ] = None
    utilisation: Annotated[Share, Flag("Share of that speed which passes reach: assumed.")] = 0.4
    bandwidth: Annotated[
        Amount | None, Flag("Memory bandwidth of a device, GB a second: for times of completions.")
    ] = None
    revision: Annotated[str | None, Flag("Revision on the hub.")] = None
    trust_remote_code: Annotated[bool, Flag("Run code that comes with the model.")] = False
