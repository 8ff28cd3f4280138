"""Several random directions beside the one that completions were written under."""

from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.stages import chosen_direction, has_no_direction
from refusalscope.results.files import write_file
from refusalscope.results.run_records import CONTROLS
from refusalscope.selection.control_spread import control_seeds, control_spread


def measure_controls(run: RunContext) -> None:
    """Write selection/controls.json: the first-token metric under every random direction."""
    if has_no_direction(run):
        return
    vector, (_, layer) = chosen_direction(run)
    prompts = {name: run.prompts(name) for name in ("harmful", "harmless")}
    with run.progress.stage("controls", None, unit="sweeps") as advance:
        spread = control_spread(
            run.chat,
            prompts,
            vector=vector,
            layer=layer,
            refusal_tokens=run.refusal_tokens,
            seeds=control_seeds(run.options.seed),
            progress=advance,
        )
    write_file(run.folder.path / CONTROLS, spread.to_json())
