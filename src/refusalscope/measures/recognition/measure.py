"""Probes for harm on a run's model as it is, and with its direction ablated."""

from jaxtyping import Float
from torch import Tensor

from refusalscope.activations.instruction_tokens import (
    read_instructions_at,
    site_layers,
    together,
)
from refusalscope.engine.rows import Around, under, untouched
from refusalscope.measures.recognition.record import (
    Place,
    Reading,
    Recognition,
    RecognitionOptions,
    State,
)
from refusalscope.metrics.detection import separation
from refusalscope.monitors.choose import Fitted, Rows, fit_layers, rank
from refusalscope.monitors.score import pooled_take
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import conditions

_PLACES: tuple[Place, ...] = ("instruction", "template")
_SETS = ("harmful_train", "harmless_train", "harmful_val", "harmless_val", "harmful", "harmless")
_Read = dict[str, Float[Tensor, "prompt layer *place d_model"]]


def measure(session: Session, _options: RecognitionOptions, _item: str = "") -> Recognition:
    """Fit a logistic probe at both places in both states, and read the test instructions.

    Weights come from the training instructions, layer and penalty from the validation ones. The
    probe of the model as it is is also read on the ablated one: what a monitor would see that was
    fitted before somebody took the direction out.

    Raises:
        RunFolderError: no run, or one without a direction.
        NumericalError: an activation is not finite, or both kinds are alike at every layer.
    """
    run = session.run
    states: dict[State, Around] = {
        "as it is": untouched,
        "ablated": under(run.chat, conditions(run, ("ablation",))["ablation"]),
    }
    layers = site_layers(run.chat, "resid")
    both = {state: _read(run, state, layers, around) for state, around in states.items()}
    readings: list[Reading] = []
    for at, place in enumerate(_PLACES):
        read = {
            state: {name: rows[:, :, at] for name, rows in own.items()}
            for state, own in both.items()
        }
        probes = {state: _fitted(own, layers) for state, own in read.items()}
        pairs: tuple[tuple[State, State], ...] = (
            ("as it is", "as it is"),
            ("ablated", "as it is"),
            ("ablated", "ablated"),
        )
        readings += [
            _reading(place, state, fitted, read[state], probes[fitted], seed=run.options.seed)
            for state, fitted in pairs
        ]
    return Recognition(readings=tuple(readings))


def _read(run: RunContext, state: State, layers: tuple[int, ...], around: Around) -> _Read:
    """Every set at both places, in one pass."""
    total = sum(len(run.sets[name].instructions) for name in _SETS)
    with run.progress.stage(f"read {state}", total, unit="prompts") as advance:
        return {
            name: read_instructions_at(
                run.chat,
                run.prompts(name),
                site="resid",
                layers=layers,
                take=together(*(pooled_take(place, None) for place in _PLACES)),
                around=around,
                batch_size=run.options.batch_size,
                progress=advance,
            )
            for name in _SETS
        }


def _fitted(read: _Read, layers: tuple[int, ...]) -> Fitted:
    by_layer = fit_layers(
        "logistic",
        train=Rows(harmful=read["harmful_train"], harmless=read["harmless_train"]),
        val=Rows(harmful=read["harmful_val"], harmless=read["harmless_val"]),
        layers=layers,
    )
    return max(by_layer.values(), key=lambda fit: rank(fit.choice))


def _reading(
    place: Place, state: State, fitted: State, read: _Read, probe: Fitted, *, seed: int
) -> Reading:
    layer = probe.choice.layer
    scores: list[list[float]] = [
        probe.readout.score(read[name][:, layer]).tolist() for name in ("harmful", "harmless")
    ]
    return Reading(
        place=place,
        state=state,
        fitted=fitted,
        layer=layer,
        separation=separation(*scores, names=("harmful", "harmless"), seed=seed),
    )
