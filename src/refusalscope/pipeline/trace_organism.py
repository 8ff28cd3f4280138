"""When does the refusal direction form? An organism's checkpoints against its final direction."""

from glob import escape
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from refusalscope.activations.difference_in_means import difference_in_means
from refusalscope.activations.moments import resid_pre_moments
from refusalscope.activations.next_token import refusal_metrics
from refusalscope.errors import InputError
from refusalscope.metrics.intervals import rate_of
from refusalscope.models.chat_model import ChatModel, load_chat_model
from refusalscope.models.prompts import Prompt
from refusalscope.organisms.organism import read_organism
from refusalscope.organisms.train import CHECKPOINTS
from refusalscope.pipeline.context import Progress, Silent
from refusalscope.pipeline.instructions import read_instruction_sets
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.refusal_tokens import fixed_refusal_tokens
from refusalscope.report.trace_page import write_trace_page
from refusalscope.results.file_names import file_name
from refusalscope.results.files import new_folder, write_file
from refusalscope.results.records import Rate, SelectionLimits
from refusalscope.results.trace_record import OrganismTrace, TracePoint
from refusalscope.selection.score import ModelScorer
from refusalscope.selection.scorer import Candidate
from refusalscope.selection.search import score_all
from refusalscope.selection.select_direction import SelectionPlan, select_direction

Prompts = dict[str, list[Prompt]]


def trace_organism(
    folder: Path,
    out: Path,
    *,
    limits: SelectionLimits | None = None,
    progress: Progress | None = None,
) -> OrganismTrace:
    """Measure every checkpoint, and leave `trace.json` and `trace.html` in a new folder `out`.

    Raises:
        InputError: `folder` is not an organism with checkpoints.
        SelectionError: the finished organism has no direction.
        OutputError: `out` exists already.
    """
    facts = read_organism(folder)
    if facts is None:
        raise InputError(f"{folder} is not an organism: it has no organism.json; give one")
    files = _checkpoints(folder, facts.stages)
    if not files:
        raise InputError(
            f"{folder} has no checkpoints; train it with `organism train --checkpoint-every 200`"
        )
    # Every refusal of the language begins so; proposing tokens needs a model that refuses.
    options = RunOptions(model=str(folder), refusal_tokens=("I",))
    sets = read_instruction_sets(options, facts.language())
    with new_folder(out) as scratch:
        chat = load_chat_model(str(folder))
        named = fixed_refusal_tokens(chat, options)
        if named is None:
            raise AssertionError("the options name the tokens")
        tokens = named.ids
        prompts = {name: chat.encode([i.text for i in s.instructions]) for name, s in sets.items()}
        differences = _differences(chat, prompts)
        selection = select_direction(
            chat,
            differences,
            harmful=prompts["harmful_val"],
            harmless=prompts["harmless_val"],
            refusal_tokens=tokens,
            limits=limits or SelectionLimits(),
            plan=SelectionPlan(strict=True),
        )
        site = (selection.chosen.position, selection.chosen.layer)
        final = differences[site]
        last = {name: weight.clone() for name, weight in chat.model.named_parameters()}
        points = []
        with (progress or Silent()).stage("trace", len(files) + 1, unit="models") as advance:
            end = (list(facts.stages)[-1], sum(facts.stages.values()), None)
            for stage, step, file in [*files, end]:
                _set_weights(chat, last if file is None else load_file(file))
                points.append(
                    _point(chat, prompts, final, stage=stage, step=step, site=site, tokens=tokens)
                )
                advance(1.0)
        trace = OrganismTrace(
            organism=facts.name,
            position=selection.chosen.position,
            layer=selection.chosen.layer,
            n_layers=chat.n_layers,
            points=tuple(points),
        )
        write_file(scratch / "trace.json", trace.to_json())
        write_trace_page(trace, scratch / "trace.html")
    return trace


def _checkpoints(folder: Path, stages: dict[str, int]) -> list[tuple[str, int, Path]]:
    """Stage, step of the whole training, and file of what was kept before the end."""
    found, before = [], 0
    for stage, n_steps in stages.items():
        named = escape(file_name(stage, what="a stage of the organism's training"))
        for path in sorted((folder / CHECKPOINTS).glob(f"{named}-*.safetensors")):
            number = path.stem.rpartition("-")[2]
            if not (number.isdecimal() and number.isascii() and len(number) < 10):
                continue
            step = before + int(number)
            if step < sum(stages.values()):
                found.append((stage, step, path))
        before += n_steps
    return found


def _set_weights(chat: ChatModel, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, weight in chat.model.named_parameters():
            weight.copy_(weights[name])


def _differences(chat: ChatModel, prompts: Prompts) -> Float[Tensor, "pos layer d_model"]:
    return difference_in_means(
        harmful=resid_pre_moments(chat, prompts["harmful_train"]).means,
        harmless=resid_pre_moments(chat, prompts["harmless_train"]).means,
    )


def _point(
    chat: ChatModel,
    prompts: Prompts,
    final: Float[Tensor, " d_model"],
    *,
    stage: str,
    step: int,
    site: Candidate,
    tokens: tuple[int, ...],
) -> TracePoint:
    differences = _differences(chat, prompts)
    own = differences[site]
    bypass = induce = cosine = None
    if bool(own.any()):
        cosine = torch.nn.functional.cosine_similarity(own, final, dim=0).item()
        scorer = ModelScorer(
            chat,
            differences,
            harmful=prompts["harmful_val"],
            harmless=prompts["harmless_val"],
            refusal_tokens=tokens,
        )
        (scores,) = score_all([site], scorer, n_layers=chat.n_layers, limits=SelectionLimits())
        bypass, induce = scores.bypass, scores.induce
    return TracePoint(
        stage=stage,
        step=step,
        cosine=cosine,
        bypass=bypass,
        induce=induce,
        harmful_refused=_refused(chat, prompts["harmful_val"], tokens),
        harmless_refused=_refused(chat, prompts["harmless_val"], tokens),
    )


def _refused(chat: ChatModel, prompts: list[Prompt], tokens: tuple[int, ...]) -> Rate:
    return rate_of((refusal_metrics(chat, prompts, tokens) > 0).tolist())
