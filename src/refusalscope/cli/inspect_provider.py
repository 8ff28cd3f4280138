"""`refusalscope/RUN` as a model of Inspect, found through its entry point.

inspect eval task.py --model refusalscope/runs/mine -M condition=ablation
"""

from inspect_ai.model import (  # pyright: ignore[reportMissingImports] # extra `inspect`
    ModelAPI,
    modelapi,
)


@modelapi(name="refusalscope")
def refusalscope() -> type[ModelAPI]:
    """The model of a run under one of its conditions; see `pipeline.inspect_model`."""
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline.inspect_model import RunModel

    quiet_libraries()
    return RunModel
