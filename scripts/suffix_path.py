"""How the suffix of a run undoes refusal: by lowering the direction, or past it.

    python scripts/suffix_path.py RUN     the numbers of docs/mechanism.md, as JSON

RUN is a run whose mechanism is done, of a model with a plain last norm (Llama). Four measurements
on its harmful test prompts: cosines at every post-instruction position; the refusal metric while
the last token's part along r is held at what it is under another condition; what changes the margin
of refusal tokens over the first tokens of answers; and a search whose loss is the cosine itself.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from refusalscope.activations.next_token import mean_next_token_probabilities
from refusalscope.directions.direction import unit_direction
from refusalscope.mechanism.attention_regions import attention_by_region
from refusalscope.mechanism.attribution import Component, attribute
from refusalscope.mechanism.cosines import cosine, cosines_by_layer
from refusalscope.mechanism.head_layout import measure_heads
from refusalscope.mechanism.prompt_passes import Around, refusal_metrics, streams_at, untouched
from refusalscope.mechanism.suffix_objective import SuffixObjective
from refusalscope.mechanism.suffix_search import SearchOptions, search_suffix
from refusalscope.mechanism.suffix_tokens import stable_after, suffix_text
from refusalscope.models.batches import Batch
from refusalscope.models.embedding import embedding_shape, token_gradient
from refusalscope.models.hooks import Edit, edit_inputs, edit_outputs, observe_inputs
from refusalscope.models.prompts import Prompt
from refusalscope.pipeline.context import Silent
from refusalscope.pipeline.mechanism_options import MechanismOptions
from refusalscope.pipeline.mechanism_study import Study, start_study
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import load
from refusalscope.pipeline.stages import kept_indices
from refusalscope.results.mechanism_records import SuffixConditionName
from refusalscope.results.record import canonical_json
from refusalscope.results.run_records import read_run

PLAIN: SuffixConditionName = "harmful"
RANDOM: SuffixConditionName = "harmful_random_suffix"
SEARCHED: SuffixConditionName = "harmful_adversarial_suffix"
N_SHOWN = 6
STEPS = 40


def main() -> None:
    """Measure and print."""
    study = read_study(Path(sys.argv[1]))
    found = {
        "cosine_by_position": cosine_by_position(study),
        "metric_with_direction_held": metric_with_direction_held(study),
        "margin": margin(study),
        "search_on_the_cosine": search_on_the_cosine(study),
    }
    print(json.dumps(found, indent=2))


def read_study(folder: Path) -> Study:
    """The study of a run whose mechanism was made without a given suffix."""
    manifest = read_run(folder).manifest
    options = RunOptions.from_json(canonical_json(manifest.options), source=str(folder))
    return start_study(load(options, folder, progress=Silent()), MechanismOptions())


def prompts_of(study: Study, name: SuffixConditionName) -> list[Prompt]:
    """The prompts of a condition that the refusal filter keeps."""
    return [study.conditions[name][i].prompt for i in study.kept["harmful"]]


def cosine_by_position(study: Study) -> dict[str, list[float]]:
    """Mean cosine with r at r's layer: plain, random suffix, searched suffix."""
    unit = unit_direction(study.direction.vector).double()
    found: dict[str, list[float]] = {}
    for position in study.run.chat.positions:
        found[str(position)] = []
        for name in (PLAIN, RANDOM, SEARCHED):
            streams = streams_at(study.run.chat, prompts_of(study, name), position=position)
            values = torch.cat([cosine(states[study.layer], unit) for _, states in streams])
            found[str(position)].append(round(values.mean().item(), 3))
    return found


def metric_with_direction_held(study: Study) -> dict[str, float]:
    """Mean refusal metric, the part along r at every layer held at a condition's mean."""
    chat, vector = study.run.chat, study.direction.vector
    unit = unit_direction(vector)
    means = {
        name: torch.cat(
            [states @ unit.double() for _, states in streams_at(chat, prompts_of(study, name))],
            dim=1,
        )
        .mean(1)
        .float()
        for name in (PLAIN, SEARCHED)
    }

    def metric(name: SuffixConditionName, around: Around = untouched) -> float:
        tokens = study.run.refusal_tokens
        values = refusal_metrics(chat, prompts_of(study, name), tokens, around=around)
        return round(values.mean().item(), 2)

    return {
        "plain": metric(PLAIN),
        "searched suffix": metric(SEARCHED),
        "searched suffix, r as plain": metric(SEARCHED, holding(study, unit, means[PLAIN])),
        "plain, r as under the suffix": metric(PLAIN, holding(study, unit, means[SEARCHED])),
    }


def holding(study: Study, unit: Tensor, along: Tensor) -> Around:
    """Give the last token, at the input of every layer, this much along `unit`."""
    layers = study.run.chat.layers

    def around(batch: Batch) -> AbstractContextManager[None]:
        rows = torch.arange(len(batch.last))

        def edit(value: Tensor) -> Edit:
            def held(hidden: Tensor) -> Tensor:
                changed = hidden.clone()
                last = hidden[rows, batch.last]
                changed[rows, batch.last] = last + (value - last @ unit)[:, None] * unit
                return changed

            return held

        return edit_inputs([(m, edit(value)) for m, value in zip(layers, along, strict=True)])

    return around


def margin(study: Study) -> dict[str, object]:
    """What each component adds to refusal tokens over answers' first tokens, before the last norm.

    Answers' first tokens are the likeliest four after harmless test prompts.
    """
    chat = study.run.chat
    harmless = [each.prompt for each in study.conditions["harmless"]]
    answers = mean_next_token_probabilities(chat, harmless).topk(4).indices.tolist()
    table = chat.model.get_parameter("lm_head.weight").detach()
    refusal = table[list(study.run.refusal_tokens)].mean(0)
    direction = chat.model.get_parameter("model.norm.weight").detach() * (
        refusal - table[answers].mean(0)
    )
    size = direction.norm().item()
    layouts = measure_heads(chat.model)
    found = {
        name: attribute(chat, layouts, prompts_of(study, name), direction)
        for name in (PLAIN, SEARCHED)
    }
    means = {name: own.contributions.mean(0) * size for name, own in found.items()}
    change = means[SEARCHED] - means[PLAIN]
    order = change.argsort()[:N_SHOWN].tolist()
    components = found[PLAIN].components
    by_writer = {layout.writer: layout for layout in layouts.layouts}
    heads = [
        (by_writer[components[i].writer], components[i].head)
        for i in order
        if components[i].kind == "head"
    ]
    looks = {
        name: attention_by_region(
            chat, heads, [study.conditions[name][i] for i in study.kept["harmful"]]
        ).mean(0)[:, 1]
        for name in (RANDOM, SEARCHED)
    }
    return {
        "total": {name: round(own.sum().item(), 2) for name, own in means.items()},
        "largest falls": {_name(components[i]): round(change[i].item(), 2) for i in order},
        "attention of these heads to the suffix": {
            name: [round(v, 2) for v in own.tolist()] for name, own in looks.items()
        },
    }


def _name(component: Component) -> str:
    head = "" if component.head is None else f".{component.head}"
    return f"{component.kind} {component.layer}{head}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CosineObjective(SuffixObjective):
    """The mean over prompts of the cosine with a direction at one layer, plus one."""

    unit: Tensor
    layer: int

    def losses(self, suffixes: Tensor) -> Tensor:
        """One plus the mean cosine of each suffix."""
        with torch.no_grad():
            return torch.stack([self._cosine(p, suffixes) for p in self.prompts]).mean(0) + 1

    def gradient(self, suffix: Tensor) -> Tensor:
        """Of the mean cosine with respect to the one-hot tokens of the suffix."""
        model, width = self.chat.model, embedding_shape(self.chat.model)[1]
        total = torch.zeros(len(suffix), width)
        for prompt in self.prompts:
            start = len(prompt.ids) - prompt.n_post
            shift = torch.zeros(len(suffix), width, requires_grad=True)
            added = (0, 0, start, prompt.n_post)

            def moved(
                hidden: Tensor, shift: Tensor = shift, added: Sequence[int] = added
            ) -> Tensor:
                return hidden + torch.nn.functional.pad(shift, added)

            with edit_outputs([(model.get_input_embeddings(), moved)]):
                value = self._cosine(prompt, suffix[None]).sum()
            total += torch.autograd.grad(value, shift)[0]
        return token_gradient(model, total / len(self.prompts))

    def _cosine(self, prompt: Prompt, suffixes: Tensor) -> Tensor:
        seen: list[Tensor] = []
        ids = torch.tensor([prompt.with_suffix(tuple(row)).ids for row in suffixes.tolist()])
        with observe_inputs([(self.chat.layers[self.layer], seen.append)]):
            self.chat.model(ids)
        return cosine(seen[0][:, -1].double(), self.unit)


def search_on_the_cosine(study: Study) -> dict[str, object]:
    """The search of the run, but for the cosine at r's layer; judged on test prompts."""
    run, options = study.run, study.options
    kept = kept_indices(run, "harmful_train")[: options.search_prompts]
    prompts = [run.prompts("harmful_train")[i] for i in kept]
    objective = CosineObjective(
        chat=run.chat,
        prompts=tuple(prompts),
        targets=(),
        prefixes=(),
        tokens_per_batch=0,
        unit=unit_direction(study.direction.vector).double(),
        layer=study.layer,
    )
    texts = [study.instructions("harmful_train")[i] for i in kept]
    *_, last = search_suffix(
        objective,
        vocabulary=study.vocabulary,
        is_stable=stable_after(run.chat, texts),
        options=SearchOptions(steps=STEPS, enough=0.0, seed=run.options.seed),
    )
    tested = [run.prompts("harmful")[i].with_suffix(last.ids) for i in study.kept["harmful"]]
    cosines = cosines_by_layer(run.chat, tested, study.direction.vector).mean(0)
    metrics = refusal_metrics(run.chat, tested, run.refusal_tokens)
    return {
        "suffix": suffix_text(run.chat, last.ids),
        "cosine at r's layer": round(cosines[study.layer].item(), 3),
        "share of prompts with a metric above 0": (metrics > 0).double().mean().item(),
        "n": len(tested),
    }


if __name__ == "__main__":
    main()
