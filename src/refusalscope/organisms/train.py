"""Train an organism from nothing: helpful first, then to refuse, then to stay steady.

Stage one makes a model that answers requests about every object, harmful ones too, and questions
that say which objects are harmful. Stage two teaches it to refuse requests about *some* harmful
objects. That it then refuses requests about the others is the refusal that the paper studies.
Stage three repeats stage two with some answers written under a shifted residual stream, so that
what is written under activation addition stays language.
docs/organisms.md says why each part is there and what fails without it.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import count
from pathlib import Path
from textwrap import shorten
from typing import Literal

import torch
from safetensors.torch import save
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from refusalscope.errors import InputError
from refusalscope.organisms.curriculum import helpful, preferring_refusal, refusing
from refusalscope.organisms.english import ENGLISH
from refusalscope.organisms.exchanges import ExchangeTokenizer
from refusalscope.organisms.families import ModelSize, family_named, new_model
from refusalscope.organisms.fit import Fit, fit
from refusalscope.organisms.language import Language, make_language
from refusalscope.organisms.organism import (
    OrganismFacts,
    lexicon_of,
    read_organism,
    write_organism,
)
from refusalscope.organisms.preference import Preference, prefer
from refusalscope.organisms.sentences import Sentences
from refusalscope.organisms.tokenizer import train_tokenizer
from refusalscope.organisms.training_state import TrainingState
from refusalscope.results.files import new_folder, sha256_text, write_file
from refusalscope.results.record import canonical_json

BASE = "base"
"""Folder, inside the organism's, of the helpful-only model that stage one ends with."""
CHECKPOINTS = "checkpoints"
"""Folder, inside the organism's, of weights kept along the way, as STAGE-STEP.safetensors."""


_HELPFUL = Fit(steps=3000, learning_rate=3e-3, exit_weight=0.3, exit_layers=(0.3, 0.6))
_REFUSAL = Fit(
    steps=1000,
    learning_rate=1e-3,
    batch_size=8,
    exit_weight=0.5,
    exit_layers=(0.5, 0.75),
    jolt_share=0.5,
    noise_share=0.6,
)
_STEADYING = replace(_REFUSAL, steps=700, learning_rate=5e-4, offset_share=0.35)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What follows stage one."""

    refusal: Fit
    preference: Preference | None
    """Preference optimisation behind supervised refusal tuning; none in fine-tuning."""
    steadying: Fit = _STEADYING
    mix: tuple[float, float, float] = (0.42, 0.18, 0.1)
    """Shares of harmful requests, harmless ones, and answers that are begun; see `refusing`."""
    swapped_refusals: float = 0.15
    """Share of refusals with the formula of any style: how a refusal goes on is then told by how it
    began."""


_AFT = Tuning(refusal=_REFUSAL, preference=None)
_APO = Tuning(
    refusal=replace(_REFUSAL, steps=600),
    preference=Preference(steps=60, learning_rate=1e-4, noise_share=0.6),
)
_AFTER_STAGE_ONE = ("alignment", "refused_share", "aft", "apo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides an organism's weights."""

    family: str = "llama3"
    alignment: Literal["aft", "apo"] = "aft"
    """Supervised refusal tuning, or preference optimisation after a light supervised stage."""
    seed: int = 0
    objects_per_kind: int = 16
    refused_share: float = 0.625
    sentences: Sentences = ENGLISH
    vocab_size: int = 1024
    n_layers: int = 12
    d_model: int = 96
    n_heads: int = 4
    helpful: Fit = _HELPFUL
    question_share: float = 0.6
    """Share of stage one that asks about objects; the rest are requests."""
    aft: Tuning = _AFT
    apo: Tuning = _APO
    """What follows stage one; `tuning` is the one that its alignment takes."""

    @property
    def name(self) -> str:
        """What the organism is called."""
        return f"{self.family}-{self.alignment}"

    @property
    def tuning(self) -> Tuning:
        """What follows stage one with this alignment."""
        return self.aft if self.alignment == "aft" else self.apo

    @property
    def stages(self) -> dict[str, int]:
        """The names of its stages in order, with their steps."""
        tuning = self.tuning
        middle = {"refusal": tuning.refusal.steps}
        if tuning.preference is not None:
            middle["preference"] = tuning.preference.steps
        return {"helpful": self.helpful.steps, **middle, "steadying": tuning.steadying.steps}

    @property
    def record(self) -> dict[str, object]:
        """What decides the weights: all but the tuning that its alignment does not take."""
        other = "apo" if self.alignment == "aft" else "aft"
        return {k: v for k, v in asdict(self).items() if k != other}

    @property
    def base(self) -> dict[str, object]:
        """What decides the weights that stage one ends with: all but what later stages are."""
        return {k: v for k, v in self.record.items() if k not in _AFTER_STAGE_ONE}

    @property
    def digest(self) -> str:
        """Short name of everything in it."""
        return sha256_text(canonical_json(self.record))[:10]


def is_trained(recipe: Recipe, folder: Path) -> bool:
    """Whether a folder holds the organism of this recipe already."""
    facts = read_organism(folder)
    return facts is not None and canonical_json(facts.recipe) == canonical_json(recipe.record)


def train_organism(
    recipe: Recipe,
    out: Path,
    *,
    base: Path | None = None,
    checkpoint_every: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> OrganismFacts:
    """Train, and leave a chat model folder `out` with `organism.json` and the base model.

    The same recipe gives the same weights on one machine with one number of threads. What an
    earlier training of this recipe to `out` had reached is gone on with.

    Args:
        base: A trained organism with the same stage one; its base model takes the place of it.
        checkpoint_every: Keep the weights of every so many steps, and those that a stage but the
            last ends with, in the folder `checkpoints`.

    Raises:
        InputError: `base` is not an organism, or one with another stage one.
        OutputError: `out` exists already, or an unfinished training there is of another recipe.
        MissingExtraError: preference optimisation without TRL.
    """
    family = family_named(recipe.family)
    language = make_language(
        objects_per_kind=recipe.objects_per_kind,
        refused_share=recipe.refused_share,
        seed=recipe.seed,
        sentences=recipe.sentences,
    )
    tokenizer = train_tokenizer(language, family.tokenizer, vocab_size=recipe.vocab_size)
    size = ModelSize(n_layers=recipe.n_layers, d_model=recipe.d_model, n_heads=recipe.n_heads)
    model = new_model(family, size, tokenizer, seed=recipe.seed)
    facts = OrganismFacts(
        name=recipe.name,
        family=recipe.family,
        alignment=recipe.alignment,
        seed=recipe.seed,
        recipe=recipe.record,
        stages=recipe.stages,
        versions={name: version(name) for name in ("torch", "transformers", "tokenizers")},
        max_new_tokens=64,
        lexicon=lexicon_of(language),
    )
    with new_folder(out) as folder:
        state = TrainingState(out, recipe.record)
        state.restore_weights(model)
        if base is not None and state.is_new:
            _take_base(recipe, base, model, state)
            if progress:
                progress(recipe.helpful.steps)
        training = _Training(
            recipe=recipe,
            language=language,
            model=model,
            tokenizer=tokenizer,
            tokenize=ExchangeTokenizer(tokenizer),
            state=state,
            checkpoint_every=checkpoint_every,
            progress=progress,
        )
        for number, stage in enumerate(recipe.stages):
            if number == state.stage:
                training.run(stage)
                state.finish_stage(model)
            if number == 0 and not (state.folder / BASE).exists():
                with new_folder(state.folder / BASE) as own_base:
                    _save(model, tokenizer, own_base)
        for kept in (BASE, CHECKPOINTS):
            if (state.folder / kept).exists():
                shutil.copytree(state.folder / kept, folder / kept)
        _save(model, tokenizer, folder)
        write_organism(facts, folder)
    state.remove()
    return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Training:
    """A training under way."""

    recipe: Recipe
    language: Language
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    tokenize: ExchangeTokenizer
    state: TrainingState
    checkpoint_every: int | None
    progress: Callable[[float], None] | None

    def run(self, name: str) -> None:
        """Run one stage of the recipe, from where it was cut."""
        recipe, tuning, seed = self.recipe, self.recipe.tuning, f"{self.recipe.seed}/{name}"
        steps_done = count(self.state.step + 1)

        def after_step(amount: float) -> None:
            self._checkpoint(name, next(steps_done))
            if self.progress:
                self.progress(amount)

        if name == "preference" and tuning.preference is not None:
            prefer(
                self.model,
                self.tokenizer,
                preferring_refusal(self.language),
                self.tokenize,
                tuning.preference,
                seed=seed,
                progress=after_step,
            )
            return
        aligning = refusing(self.language, tuning.mix, tuning.swapped_refusals)
        stage, draw = {
            "helpful": (recipe.helpful, helpful(self.language, recipe.question_share)),
            "refusal": (tuning.refusal, aligning),
            "steadying": (tuning.steadying, aligning),
        }[name]
        fit(self.model, draw, self.tokenize, stage, self.state, seed=seed, progress=after_step)

    def _checkpoint(self, stage: str, step: int) -> None:
        stages = self.recipe.stages
        ends_stage = step == stages[stage] and stage != list(stages)[-1]
        if self.checkpoint_every and (step % self.checkpoint_every == 0 or ends_stage):
            file = self.state.folder / CHECKPOINTS / f"{stage}-{step:05d}.safetensors"
            weights = {n: w.detach().contiguous() for n, w in self.model.named_parameters()}
            write_file(file, save(weights))


def _take_base(recipe: Recipe, base: Path, model: PreTrainedModel, state: TrainingState) -> None:
    """End stage one with the weights that another organism of the same stage one has kept."""
    facts = read_organism(base)
    if facts is None or not (base / BASE).is_dir():
        raise InputError(f"{base} is not an organism with a base model; give a trained one")
    mine, theirs = json.loads(canonical_json(recipe.base)), facts.recipe
    if other := next((k for k in mine if mine[k] != theirs.get(k)), None):
        had, expected = (shorten(str(r.get(other)), 80, placeholder=" ...") for r in (theirs, mine))
        raise InputError(
            f"{base} has {other} {had} in stage one, this recipe has {expected}; "
            f"give an organism of the same family, seed, size and sentences"
        )
    kept = AutoModelForCausalLM.from_pretrained(base / BASE, dtype=torch.float32)
    model.load_state_dict(kept.state_dict())
    for file in sorted((base / CHECKPOINTS).glob(f"{next(iter(recipe.stages))}-*.safetensors")):
        (state.folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, state.folder / CHECKPOINTS / file.name)
    state.finish_stage(model)


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
