"""Several random directions beside the one that completions were written under."""

from refusalscope.directions.direction import load_direction
from refusalscope.errors import InstructionsError
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.stages import has_no_direction
from refusalscope.results.files import write_file
from refusalscope.results.run_records import CONTROLS
from refusalscope.selection.control_spread import control_seeds, control_spread


def measure_controls(run: RunContext) -> None:
    """Write selection/controls.json: the first-token metric under every random direction."""
    if has_no_direction(run):
        return
    direction = load_direction(run.folder.path, d_model=run.chat.d_model)
    if direction.layer is None:
        raise InstructionsError("the run's direction has no layer; run select again")
    prompts = {name: run.prompts(name) for name in ("harmful", "harmless")}
    with run.progress.stage("controls", None, unit="sweeps") as advance:
        spread = control_spread(
            run.chat,
            prompts,
            vector=direction.vector,
            layer=direction.layer,
            refusal_tokens=run.refusal_tokens,
            seeds=control_seeds(run.options.seed),
            progress=advance,
        )
    write_file(run.folder.path / CONTROLS, spread.to_json())
