"""Selection side by side: the paper's procedure and ours, on one model, in one process.

The paper's procedure, written from its description: for every candidate three sweeps over the
validation prompts (bypass and KL under a hook on every block input, attention output and MLP
output; induce under addition), batches of 32, left padding, logits of every token; then the filter.

    python benchmarks/selection.py [MODEL] [--json]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from hindsight import Scores, hindsight_passes
from torch import Tensor, nn

from refusalscope.activations.difference_in_means import difference_in_means
from refusalscope.activations.moments import resid_pre_moments
from refusalscope.activations.next_token import mean_next_token_probabilities
from refusalscope.metrics.kl import kl_divergence
from refusalscope.metrics.refusal_metric import refusal_metric
from refusalscope.metrics.refusal_tokens import propose_refusal_tokens
from refusalscope.models.batches import pad
from refusalscope.models.chat_model import ChatModel, load_chat_model
from refusalscope.models.prompts import Prompt
from refusalscope.organisms.organism import read_organism, resolve_model
from refusalscope.pipeline.instructions import read_instruction_sets
from refusalscope.pipeline.options import RunOptions
from refusalscope.results.records import CandidateScores, Selection, SelectionLimits
from refusalscope.selection.score_book import ScoreBook
from refusalscope.selection.scorer import SCORE_NAMES
from refusalscope.selection.select import ZERO
from refusalscope.selection.select_direction import (
    SelectionPlan,
    select_direction,
    select_recorded,
)

BATCH = 32


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default=RunOptions().model)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = compare(arguments.model, repeats=arguments.repeats, seed=arguments.seed)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name}: {value}")


def compare(model: str, *, repeats: int, seed: int) -> dict[str, object]:
    """Run both procedures in turn, `repeats` times; the ratio is that of the median times."""
    chat, val, differences, tokens = _prepare(model, seed=seed)
    limits = SelectionLimits()

    def ours() -> Selection:
        return select_direction(
            chat,
            differences,
            harmful=val["harmful_val"],
            harmless=val["harmless_val"],
            refusal_tokens=tokens,
            limits=limits,
        )

    def theirs() -> list[CandidateScores]:
        return paper_procedure(chat, differences, val["harmful_val"], val["harmless_val"], tokens)

    seconds: dict[str, list[float]] = {"ours": [], "paper": []}
    selection, scores = ours(), theirs()
    for _ in range(repeats):
        _timed(ours, seconds["ours"])
        _timed(theirs, seconds["paper"])
    chosen = select_recorded(scores, n_layers=chat.n_layers, limits=limits)
    winner = (selection.chosen.position, selection.chosen.layer)
    worst, n_both = _largest_difference(selection, scores)
    paper, own = (statistics.median(seconds[name]) for name in ("paper", "ours"))
    return {
        "compared": "seconds of the paper's selection procedure over seconds of ours",
        "ratio": paper / own,
        "same_winner": winner == (chosen.position, chosen.layer),
        "winner": winner,
        "largest_score_difference": worst,
        "scores_equal_to_1e-4": worst <= 1e-4,
        "n_scores_both_computed": n_both,
        "sweeps": selection.sweeps,
        "full_sweeps": selection.full_sweeps,
        "hindsight_ratio": hindsight_ratio(chat, val, differences, tokens, selection),
        "repeats": repeats,
        "threads": torch.get_num_threads(),
    }


def hindsight_ratio(
    chat: ChatModel,
    val: dict[str, list[Prompt]],
    differences: Tensor,
    tokens: tuple[int, ...],
    selection: Selection,
) -> float:
    """Sweeps of ours over those of the cheapest proof with all scores known."""
    book = ScoreBook()
    whole = select_direction(
        chat,
        differences,
        harmful=val["harmful_val"],
        harmless=val["harmless_val"],
        refusal_tokens=tokens,
        limits=selection.limits,
        plan=SelectionPlan(all_scores=True),
        book=book,
    )
    scores: Scores = {
        (row.position, row.layer): {
            name: list(book.known(name, (row.position, row.layer)).values()) for name in SCORE_NAMES
        }
        for row in whole.candidates
        if row.rejected != ZERO
    }
    passes = hindsight_passes(
        scores,
        n_layers=chat.n_layers,
        limits=selection.limits,
        chosen=(whole.chosen.position, whole.chosen.layer),
        passes=not whole.nearest,
    )
    n_set = (len(val["harmful_val"]) + len(val["harmless_val"])) / 2
    return (selection.sweeps or 0.0) / (passes / n_set)


def paper_procedure(
    chat: ChatModel,
    differences: Tensor,
    harmful: list[Prompt],
    harmless: list[Prompt],
    tokens: tuple[int, ...],
) -> list[CandidateScores]:
    """Three sweeps for every candidate, nothing left out."""
    base = _all_logits(chat, harmless, {})
    rows = []
    for position in chat.positions:
        for layer in range(chat.n_layers):
            vector = differences[position, layer].float()
            ablate = _ablation_hooks(chat, vector)
            ablated = _all_logits(chat, harmless, ablate)
            bypass = refusal_metric(_all_logits(chat, harmful, ablate), tokens).mean().item()
            added = _all_logits(
                chat, harmless, {chat.layers[layer]: ("in", lambda x, v=vector: x + v)}
            )
            rows.append(
                CandidateScores(
                    position=position,
                    layer=layer,
                    bypass=bypass,
                    induce=refusal_metric(added, tokens).mean().item(),
                    kl=kl_divergence(base, ablated).mean().item(),
                    rejected=None,
                )
            )
    return rows


Hooks = dict[nn.Module, tuple[str, Callable[[Tensor], Tensor]]]


def _ablation_hooks(chat: ChatModel, vector: Tensor) -> Hooks:
    norm = vector.norm()
    unit = vector / norm if norm > 0 else vector

    def ablate(x: Tensor) -> Tensor:
        return x - (x @ unit)[..., None] * unit

    hooks: Hooks = dict.fromkeys(chat.layers, ("in", ablate))
    for writer in chat.anatomy.writers:
        hooks[chat.model.get_submodule(writer.module)] = ("out", ablate)
    return hooks


@torch.inference_mode()
def _all_logits(chat: ChatModel, prompts: list[Prompt], hooks: Hooks) -> Tensor:
    last = []
    for start in range(0, len(prompts), BATCH):
        batch = pad(
            prompts[start : start + BATCH], pad_id=chat.pad_id, device=chat.device, side="left"
        )
        with ExitStack() as stack:
            for module, (side, edit) in hooks.items():
                register = (
                    module.register_forward_pre_hook(_before(edit), with_kwargs=True)
                    if side == "in"
                    else module.register_forward_hook(_after(edit))
                )
                stack.callback(register.remove)
            output = chat.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        last.append(output.logits[:, -1])
    return torch.cat(last)


def _before(edit: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def hook(_module: nn.Module, args: Any, kwargs: Any) -> Any:  # noqa: ANN401
        if args:
            return (edit(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": edit(kwargs["hidden_states"])}

    return hook


def _after(edit: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:  # noqa: ANN401
        return (edit(output[0]), *output[1:]) if isinstance(output, tuple) else edit(output)

    return hook


def _prepare(
    model: str, *, seed: int
) -> tuple[ChatModel, dict[str, list[Prompt]], Tensor, tuple[int, ...]]:
    options = RunOptions(model=model, seed=seed)
    source = resolve_model(model)
    organism = read_organism(Path(source))
    sets = read_instruction_sets(options, organism.language() if organism else None)
    chat = load_chat_model(source)
    prompts = {name: chat.encode([i.text for i in s.instructions]) for name, s in sets.items()}
    first = [
        mean_next_token_probabilities(chat, prompts[name])
        for name in ("harmful_train", "harmless_train")
    ]
    tokens = tuple(token.id for token in propose_refusal_tokens(*first))
    differences = difference_in_means(
        harmful=resid_pre_moments(chat, prompts["harmful_train"]).means,
        harmless=resid_pre_moments(chat, prompts["harmless_train"]).means,
    )
    return chat, prompts, differences, tokens


def _timed(function: Callable[[], object], into: list[float]) -> None:
    started = time.perf_counter()
    function()
    into.append(time.perf_counter() - started)


def _largest_difference(selection: Selection, scores: list[CandidateScores]) -> tuple[float, int]:
    theirs = {(s.position, s.layer): s for s in scores}
    differences = [
        abs(own - other)
        for mine in selection.candidates
        for name in ("bypass", "induce", "kl")
        if (own := getattr(mine, name)) is not None
        and (other := getattr(theirs[mine.position, mine.layer], name)) is not None
    ]
    return max(differences, default=0.0), len(differences)


if __name__ == "__main__":
    main()
