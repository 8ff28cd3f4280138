"""`refusalscope monitor`: fit a monitor on a run's model, and score instructions by it."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.activations.instruction_tokens import (
    along,
    instruction_mean,
    largest_window_mean,
    read_instructions_at,
    site_layers,
)
from refusalscope.data.instruction import Instruction
from refusalscope.data.sources import read_file_or_source
from refusalscope.engine.rows import Around, under, untouched
from refusalscope.errors import InputError, OutputError
from refusalscope.metrics.calibration import log_odds
from refusalscope.metrics.detection import threshold_at
from refusalscope.models.chat_model import ChatModel, load_chat_model
from refusalscope.models.load_options import LoadOptions
from refusalscope.models.prompts import Prompt
from refusalscope.monitors.choose import Fitted, Rows, fit_layers, judged, rank
from refusalscope.monitors.monitor import Monitor, digests, load_monitor, save_monitor
from refusalscope.monitors.readout import projection_readout
from refusalscope.monitors.score import pooled_take, require_same_shape, score_prompts
from refusalscope.organisms.organism import resolve_model
from refusalscope.pipeline.context import Progress, RunContext
from refusalscope.pipeline.instructions import InstructionSet
from refusalscope.pipeline.monitor_sets import FitSets, fit_sets
from refusalscope.pipeline.reopen import reopen
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import chosen_direction, conditions
from refusalscope.results.files import write_file
from refusalscope.results.monitor_records import (
    LayerChoice,
    MonitorFacts,
    MonitorFitOptions,
    MonitorScore,
    Platt,
    Pool,
)
from refusalscope.results.run_records import RUN
from refusalscope.results.versions import package_versions


def require_free(path: Path) -> None:
    """Refuse, before anything is computed, to write over what is there.

    Raises:
        OutputError: there is something of that name.
    """
    if os.path.lexists(path):
        raise OutputError(f"{path} exists already; give the name of a file that does not exist")


def fit_monitor(session: Session, options: MonitorFitOptions, out: Path) -> Monitor:
    """Fit one monitor and write its file.

    Weights are fitted on training instructions; layer and penalty are those that tell validation
    instructions apart best; the threshold is set on harmless instructions that neither saw.

    Raises:
        InputError: too few harmless instructions, no such layer, or options that exclude others.
        InstructionsError: as `fit_sets`.
        NumericalError: nothing differs between both kinds, or an activation is not finite.
    """
    require_free(out)
    run = session.run
    layers = _layers(run.chat, options)
    sets = fit_sets(run, options)
    fitted, looked_at, pool, token = _fitted(run, options, sets, layers)
    monitor = Monitor(
        facts=_facts(run, options, sets, fitted, looked_at, pool=pool, token=token),
        readout=fitted.readout,
        seen=digests(_every(sets)),
    )
    monitor = _with_threshold(run, monitor, options, sets)
    save_monitor(monitor, out)
    return monitor


def score_instructions(
    monitor_file: Path,
    model: str,
    instructions: str,
    out: Path,
    *,
    progress: Progress,
    trust_remote_code: bool = False,
) -> list[MonitorScore]:
    """Score the instructions of a file, and write a line for each.

    Args:
        model: A run's folder, or whatever a model is loaded from.

    Raises:
        RefusalscopeError: any of its kinds.
    """
    require_free(out)
    monitor = load_monitor(monitor_file)
    rows = read_file_or_source(instructions).instructions
    if (Path(model) / RUN).is_file():
        run = reopen(Path(model), progress=progress, trust_remote_code=trust_remote_code)
        chat, batch_size = run.chat, run.options.batch_size
    else:
        options = LoadOptions(trust_remote_code=trust_remote_code)
        chat, batch_size = load_chat_model(resolve_model(model), options), 32
    require_same_shape(chat, monitor)
    prompts = chat.encode([row.text for row in rows])
    with progress.stage("score", len(prompts), unit="prompts") as advance:
        scores = score_prompts(chat, prompts, monitor, batch_size=batch_size, progress=advance)
    found = _scored(monitor, rows, scores)
    write_file(out, "".join(row.to_line() for row in found))
    return found


def _scored(
    monitor: Monitor, rows: Sequence[Instruction], scores: Float[Tensor, " prompt"]
) -> list[MonitorScore]:
    probabilities = monitor.probability(scores)
    return [
        MonitorScore(
            instruction=row.text,
            category=row.category,
            score=score,
            is_flagged=fires,
            probability=None if probabilities is None else float(probabilities[i]),
        )
        for i, (row, score, fires) in enumerate(
            zip(rows, scores.tolist(), monitor.flags(scores), strict=True)
        )
    ]


def _layers(chat: ChatModel, options: MonitorFitOptions) -> tuple[int, ...]:
    if options.kind == "projection" and options.site != "resid":
        raise InputError(
            f"a projection on the run's direction is one of the stream, not of --site "
            f"{options.site}; leave --site away, or fit another kind"
        )
    there = site_layers(chat, options.site)
    if options.layer is None:
        return there
    if options.layer not in there:
        raise InputError(
            f"--layer {options.layer} has no {options.site} in {chat.name}; it has layers "
            f"{there[0]} to {there[-1]}"
        )
    return (options.layer,)


def _fitted(
    run: RunContext, options: MonitorFitOptions, sets: FitSets, layers: tuple[int, ...]
) -> tuple[Fitted, tuple[LayerChoice, ...], Pool, int | None]:
    """The readout that is best, all that were looked at, and where it reads."""
    if options.kind == "projection":
        vector, (position, own) = chosen_direction(run)
        layer = own if options.layer is None else options.layer
        readout = projection_readout(vector)
        rows = [
            readout.score(_read(run, each, options, (layer,), pool="direction", token=position))
            for each in (sets.harmful_val, sets.harmless_val)
        ]
        choice = judged(rows[0][:, 0], rows[1][:, 0], layer=layer, penalty=None)
        return Fitted(readout=readout, choice=choice), (choice,), "direction", position
    pool: Pool = "mean" if options.kind == "sliding" else options.token
    read = [_under_all(run, each, options, layers, pool=pool) for each in sets.all[:4]]
    train = Rows(harmful=read[0], harmless=read[1])
    val = Rows(harmful=read[2], harmless=read[3])
    by_layer = fit_layers(options.kind, train=train, val=val, layers=layers)
    if options.kind == "sliding":
        by_layer = _slid(run, options, sets, by_layer)
        pool = "sliding"
    best = max(by_layer.values(), key=lambda fit: rank(fit.choice))
    return best, tuple(fit.choice for fit in by_layer.values()), pool, None


def _slid(
    run: RunContext, options: MonitorFitOptions, sets: FitSets, by_layer: dict[int, Fitted]
) -> dict[int, Fitted]:
    """The same weights, judged by what they are used for: the largest mean over a window."""
    layers = tuple(by_layer)
    vectors = {layer: fit.readout.vector for layer, fit in by_layer.items()}
    offsets = torch.tensor([fit.readout.offset for fit in by_layer.values()])
    ours, theirs = (
        torch.cat(
            [
                read_instructions_at(
                    run.chat,
                    _prompts(run, each),
                    site=options.site,
                    layers=layers,
                    take=along(vectors),
                    finish=largest_window_mean(options.window),
                    around=around,
                    batch_size=run.options.batch_size,
                )
                for around in _arounds(run, options)
            ]
        )
        + offsets
        for each in (sets.harmful_val, sets.harmless_val)
    )
    return {
        layer: Fitted(
            readout=fit.readout,
            choice=judged(ours[:, i], theirs[:, i], layer=layer, penalty=fit.choice.penalty),
        )
        for i, (layer, fit) in enumerate(by_layer.items())
    }


def _arounds(run: RunContext, options: MonitorFitOptions) -> list[Around]:
    """The model as it is, and with the run's direction ablated."""
    if not options.ablated:
        return [untouched]
    return [untouched, under(run.chat, conditions(run, ("ablation",))["ablation"])]


def _under_all(
    run: RunContext,
    each: InstructionSet,
    options: MonitorFitOptions,
    layers: tuple[int, ...],
    *,
    pool: Pool,
) -> Float[Tensor, "prompt layer d_model"]:
    return torch.cat(
        [
            _read(run, each, options, layers, pool=pool, around=around)
            for around in _arounds(run, options)
        ]
    )


def _read(
    run: RunContext,
    each: InstructionSet,
    options: MonitorFitOptions,
    layers: tuple[int, ...],
    *,
    pool: Pool,
    token: int | None = None,
    around: Around = untouched,
) -> Float[Tensor, "prompt layer d_model"]:
    prompts = _prompts(run, each)
    with run.progress.stage(f"read {each.name}", len(prompts), unit="prompts") as advance:
        return read_instructions_at(
            run.chat,
            prompts,
            site=options.site,
            layers=layers,
            take=instruction_mean if pool == "mean" else pooled_take(pool, token),
            around=around,
            batch_size=run.options.batch_size,
            progress=advance,
        )


def _prompts(run: RunContext, each: InstructionSet) -> list[Prompt]:
    return run.chat.encode([i.text for i in each.instructions])


def _every(sets: FitSets) -> list[Instruction]:
    """All instructions of all sets, each once."""
    return list({i.text: i for own in sets.all for i in own.instructions}.values())


def _facts(
    run: RunContext,
    options: MonitorFitOptions,
    sets: FitSets,
    fitted: Fitted,
    looked_at: tuple[LayerChoice, ...],
    *,
    pool: Pool,
    token: int | None,
) -> MonitorFacts:
    """All but the threshold, which is set by scores of the monitor itself."""
    return MonitorFacts(
        kind=options.kind,
        site=options.site,
        layer=fitted.choice.layer,
        pool=pool,
        token=token,
        window=options.window if pool == "sliding" else None,
        d_model=run.chat.d_model,
        n_layers=run.chat.n_layers,
        threshold=0.0,
        fpr=options.fpr,
        n_threshold=len(sets.threshold.instructions),
        is_threshold_apart=set(sets.threshold.instructions).isdisjoint(
            sets.harmless_val.instructions
        ),
        platt=None,
        penalty=fitted.choice.penalty,
        is_ablated=options.ablated and options.kind != "projection",
        held_out=options.hold_out,
        layers=looked_at,
        fitted_on=tuple(own.counts() for own in sets.all),
        model=run.chat.name,
        weights_sha256=run.chat.weights_sha256,
        template_sha256=run.chat.prompt_format.sha256(),
        seed=run.options.seed,
        versions=package_versions(),
    )


def _with_threshold(
    run: RunContext, monitor: Monitor, options: MonitorFitOptions, sets: FitSets
) -> Monitor:
    """The monitor with the threshold at its false positive rate, and a map to probabilities."""

    def scores(own: InstructionSet) -> list[float]:
        return score_prompts(
            run.chat, _prompts(run, own), monitor, batch_size=run.options.batch_size
        ).tolist()

    ours, theirs = scores(sets.harmful_val), scores(sets.harmless_val)
    odds = log_odds([*ours, *theirs], [True] * len(ours) + [False] * len(theirs))
    changed = {
        "threshold": threshold_at(scores(sets.threshold), options.fpr),
        "platt": None if odds is None else Platt(intercept=odds[0], slope=odds[1]),
    }
    return Monitor(
        facts=monitor.facts.model_copy(update=changed),
        readout=monitor.readout,
        seen=monitor.seen,
    )
