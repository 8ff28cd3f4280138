"""`refusalscope harden`: an organism tuned on, so that no single direction carries its refusal.

Refusal tuning, with the refusal direction ablated in a share of the steps: what refuses then must
be something else (ReFAT: Yu et al. 2024, https://arxiv.org/abs/2409.20089, where the direction is
read anew as the model changes). Tuning of equal steps without ablation is the baseline. `backup`
makes a second direction that takes over where the first is gone, and is not seen where it is not;
`subspace` does so for as many as the audit's rank curve would find one after the other.
Whether a model is sturdier is for the audit to say, which reads directions anew from it.
"""

import copy
import json
import math
import random
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from refusalscope.activations.difference_in_means import difference_in_means
from refusalscope.activations.moments import resid_pre_moments
from refusalscope.directions.direction import unit_direction
from refusalscope.errors import InputError
from refusalscope.interventions.apply import without_span
from refusalscope.models.hooks import observe_inputs
from refusalscope.organisms.curriculum import refusing
from refusalscope.organisms.exchanges import ExchangeTokenizer, TrainingBatch
from refusalscope.organisms.fit import Fit, fit
from refusalscope.organisms.organism import OrganismFacts, write_organism
from refusalscope.organisms.train import Recipe
from refusalscope.organisms.training_state import TrainingState
from refusalscope.pipeline.choose import limits_of
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import candidates_of, chosen_direction
from refusalscope.results.files import new_folder, write_file
from refusalscope.results.harden_records import HARDENING, Hardening, HardenOptions
from refusalscope.results.versions import package_versions
from refusalscope.selection.select import layer_limit

_READ = "directions.json"
_READ_ON = 32
"""Training prompts of each kind that a direction is read from."""


def harden(session: Session, options: HardenOptions, out: Path) -> Hardening:
    """Tune a copy of a run's organism, and leave it in the new folder `out`.

    A training to `out` that was cut is gone on with. The model of the session is the tuned one
    afterwards, so nothing else may be measured in it.

    Raises:
        InputError: the run's model is no organism.
        RunFolderError: the run has no direction.
        OutputError: `out` exists already, or an unfinished training there is of other options.
    """
    run = session.run
    organism = run.organism
    if organism is None or run.language is None:
        raise InputError(
            f"{run.chat.name} is no organism; only they bring the exchanges to be tuned on"
        )
    model, recipe, own = run.chat.model, _recipe(run, options), Recipe().tuning
    with new_folder(out) as folder:
        state = TrainingState(out, recipe)
        tuned = _Tuned(run, options, state)
        state.restore_weights(model)
        model.requires_grad_(True)
        try:
            with run.progress.stage("harden", options.steps, unit="steps") as advance:
                fit(
                    model,
                    refusing(run.language, own.mix, own.swapped_refusals),
                    ExchangeTokenizer(run.chat.tokenizer),
                    Fit(steps=options.steps, learning_rate=options.learning_rate),
                    state,
                    seed=f"{options.seed}/harden",
                    around=tuned.around,
                    beside=tuned.beside,
                    progress=advance,
                )
        finally:
            model.requires_grad_(False)
        model.save_pretrained(folder)
        run.chat.tokenizer.save_pretrained(folder)
        write_organism(_facts(organism, recipe, options), folder)
        record = Hardening(
            run=str(session.folder),
            weights_sha256=run.chat.weights_sha256,
            options=options,
            n_ablated=sum(tuned.is_ablated(step) for step in range(options.steps)),
            cosines=tuned.cosines,
            versions=package_versions(),
        )
        write_file(folder / HARDENING, record.to_json())
    state.remove()
    return record


class _Tuned:
    """The model under tuning: when the direction is ablated, and which one."""

    def __init__(self, run: RunContext, options: HardenOptions, state: TrainingState) -> None:
        self._run, self._options, self._kept = run, options, state.folder / _READ
        vector, self._place = chosen_direction(run)
        self._first = unit_direction(vector)
        self._prompts = {
            kind: run.prompts(f"{kind}_train")[:_READ_ON] for kind in ("harmful", "harmless")
        }
        self._read: dict[int, list[list[float]]] = {}
        """By the step before which they were read; of a training that was cut, those it had."""
        if self._kept.is_file():
            kept = json.loads(self._kept.read_text("utf-8"))
            self._read = {step: basis for step, basis in kept if step <= state.step}
        self._frozen = None
        if options.method in ("backup", "subspace"):
            self._frozen = copy.deepcopy(run.chat.model).eval()
        self._seen: list[Tensor] = []
        last = [self._read[step] for step in sorted(self._read)][-1:]
        self._basis = torch.tensor(last[0]) if last else self._first[None]

    @property
    def cosines(self) -> tuple[float, ...]:
        """Of the first direction of each extraction with the run's, in order."""
        return tuple(float(torch.tensor(b[0]) @ self._first) for b in self._read.values())

    def is_ablated(self, step: int) -> bool:
        """Whether the direction is ablated in a step; a draw of the seed."""
        options = self._options
        drawn = random.Random(f"{options.seed}/ablated/{step}").random()
        return options.method != "plain" and drawn < options.share

    def around(self, step: int) -> AbstractContextManager[None]:
        """What a step runs under."""
        options = self._options
        reads = options.method in ("reextracted", "subspace") and step % options.every == 0
        if reads and step and step not in self._read:
            self._basis = self._extracted()
            self._read[step] = self._basis.tolist()
            write_file(self._kept, json.dumps(list(self._read.items())))
        if self.is_ablated(step):
            basis = self._basis[: self._n_removed(step)]
            return without_span(self._run.chat.model, self._run.chat.anatomy, basis)
        return nullcontext() if self._frozen is None else self._watched(self._run.chat.model)

    def _n_removed(self, step: int) -> int:
        """How many of the directions are ablated in a step; a draw of the seed."""
        drawn = random.Random(f"{self._options.seed}/removed/{step}")
        return drawn.randrange(len(self._basis)) + 1

    def beside(self, step: int, batch: TrainingBatch) -> Float[Tensor, ""] | None:
        """How far what is read of the prompts has moved from the untuned model, over its spread.

        Mean over layers of the mean squared difference over the variance, at every token of the
        prompts. None in steps under ablation, and for methods that keep nothing.
        """
        if self._frozen is None or self.is_ablated(step):
            return None
        ours = self._seen
        with torch.no_grad(), self._watched(self._frozen):
            self._frozen(input_ids=batch.input_ids, use_cache=False)
        is_prompt = torch.arange(batch.input_ids.shape[1]) <= batch.last_prompt[:, None]
        moved = [
            (own[is_prompt] - kept[is_prompt]).square().mean() / kept[is_prompt].var()
            for own, kept in zip(ours, self._seen, strict=True)
        ]
        return self._options.keep * torch.stack(moved).mean()

    @contextmanager
    def _watched(self, model: torch.nn.Module) -> Generator[None]:
        """Keep what enters every layer but the first, and the last norm, of one forward pass."""
        self._seen = []
        backbone: Any = model.get_decoder()  # pyright: ignore[reportCallIssue]
        places = [*backbone.layers[1:], backbone.norm]
        with observe_inputs([(module, self._seen.append) for module in places]):
            yield

    def _extracted(self) -> Float[Tensor, "rank d_model"]:
        """Directions of the model as it is by now, orthonormal.

        The first is the difference in means where the run's was read. Each of the others is read
        with those before it removed, below the run's layer limit, where the means are furthest
        apart for their spread.
        """
        chat, run = self._run.chat, self._run
        limit = layer_limit(chat.n_layers, limits_of(run.study, candidates_of(run).facts))
        basis = torch.zeros(0, chat.d_model, dtype=torch.float64)
        n = self._options.rank if self._options.method == "subspace" else 1
        while len(basis) < n:
            removed = without_span(chat.model, chat.anatomy, basis.float())
            with _evaluating(chat.model), removed if len(basis) else nullcontext():
                harmful, harmless = (resid_pre_moments(chat, p) for p in self._prompts.values())
            apart = difference_in_means(harmful=harmful.means, harmless=harmless.means)
            apart = apart - (apart @ basis.T) @ basis
            position, layer = self._place
            if len(basis):
                spread = (harmful.variances + harmless.variances).sum(-1).clamp(min=1e-12)
                scores = apart.square().sum(-1) / spread
                scores[:, math.ceil(limit) :] = 0
                best = int(scores.argmax())
                position, layer = best // scores.shape[1], best % scores.shape[1]
            basis = torch.cat([basis, normalize(apart[position, layer], dim=0)[None]])
        return basis.float()


@contextmanager
def _evaluating(model: torch.nn.Module) -> Generator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _recipe(run: RunContext, options: HardenOptions) -> dict[str, object]:
    vector, place = chosen_direction(run)
    return {
        "hardened": options.model_dump(mode="json"),
        "weights_sha256": run.chat.weights_sha256,
        "direction": [vector.tolist(), list(place)],
    }


def _facts(
    organism: OrganismFacts, recipe: dict[str, object], options: HardenOptions
) -> OrganismFacts:
    """Of the organism that it was made from, with what was added."""
    more = {name: recipe[name] for name in ("hardened", "weights_sha256")}
    return organism.model_copy(
        update={
            "name": f"{organism.name}-{options.method}",
            "recipe": {**organism.recipe, **more},
            "stages": {**organism.stages, "hardened": options.steps},
        }
    )
