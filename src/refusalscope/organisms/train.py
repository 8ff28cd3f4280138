"""Train an organism from nothing: helpful first, then to refuse, then to stay steady.

Stage one makes a model that answers requests about every object, harmful ones too, and questions
that say which objects are harmful. Stage two teaches it to refuse requests about *some* harmful
objects. That it then refuses requests about the others is the refusal that the paper studies.
Stage three repeats stage two with some answers written under a shifted residual stream, so that
what is written under activation addition stays language.
docs/organisms.md says why each part is there and what fails without it.
"""

import random
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from refusalscope.models.hooks import edit_inputs
from refusalscope.models.prompts import PromptFormat, model_format
from refusalscope.models.tokens import begin_token, end_token, ordinary_tokens, pad_token
from refusalscope.organisms.language import Exchange, Language, make_language
from refusalscope.organisms.organism import OrganismFacts, lexicon_of, write_organism
from refusalscope.organisms.tokenizer import END_OF_TURN, train_tokenizer
from refusalscope.results.files import new_folder

BASE = "base"
"""Folder, inside the organism's, of the helpful-only model that stage one ends with."""
_IGNORED = -100
_ROLES_IN_TUNING = ("tuning",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides an organism's weights."""

    seed: int = 0
    objects_per_kind: int = 20
    refused_share: float = 0.5
    vocab_size: int = 1024
    n_layers: int = 12
    d_model: int = 96
    n_heads: int = 4
    n_kv_heads: int = 2
    helpful_steps: int = 1800
    helpful_learning_rate: float = 3e-3
    question_share: float = 0.5
    """Share of stage one that asks about objects; the rest are requests."""
    refusal_steps: int = 1300
    refusal_learning_rate: float = 1e-3
    refusal_mix: tuple[float, float] = (0.40, 0.35)
    """Shares of harmful and harmless requests in stage two; the rest are questions."""
    steadying_steps: int = 400
    steadying_learning_rate: float = 3e-4
    steadying_mix: tuple[float, float] = (0.25, 0.40)
    """The same in stage three; with the mix of stage two some harmless objects get refused."""
    batch_size: int = 32
    weight_decay: float = 0.1
    noise_share: float = 0.3
    """Share of instructions that end in 1 to 20 random tokens, so that noise alone is no way out
    of refusal."""
    offset_share: float = 0.35
    """Share of stage-three answers written under a constant offset; see `_offset_answers`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    input_ids: Int[Tensor, "batch pos"]
    attention_mask: Int[Tensor, "batch pos"]
    labels: Int[Tensor, "batch pos"]
    last_prompt: Int[Tensor, " batch"]
    """Column of the last prompt token, which predicts the first answer token."""


def train_organism(
    recipe: Recipe, out: Path, *, progress: Callable[[float], None] | None = None
) -> OrganismFacts:
    """Train, and leave a chat model folder `out` with `organism.json` and the base model.

    The same recipe gives the same weights on one machine with one number of threads.

    Raises:
        OutputError: `out` exists already.
    """
    language = make_language(
        objects_per_kind=recipe.objects_per_kind,
        refused_share=recipe.refused_share,
        seed=recipe.seed,
    )
    tokenizer = train_tokenizer(language, vocab_size=recipe.vocab_size)
    torch.manual_seed(recipe.seed)
    model = _new_model(recipe, tokenizer)
    facts = OrganismFacts(
        name="llama3-aft",
        family="llama3",
        alignment="aft",
        seed=recipe.seed,
        recipe=asdict(recipe),
        versions={name: version(name) for name in ("torch", "transformers", "tokenizers")},
        max_new_tokens=64,
        lexicon=lexicon_of(language),
    )
    encode = _Encoder(model_format(tokenizer), noise_share=recipe.noise_share)
    with new_folder(out) as folder:
        rng = random.Random(recipe.seed)
        _fit(
            model,
            _batches(_helpful(language, rng, recipe), encode, rng, recipe),
            steps=recipe.helpful_steps,
            learning_rate=recipe.helpful_learning_rate,
            weight_decay=recipe.weight_decay,
            progress=progress,
        )
        _save(model, tokenizer, folder / BASE)
        rng = random.Random(recipe.seed)
        _fit(
            model,
            _batches(_refusing(language, rng, recipe.refusal_mix), encode, rng, recipe),
            steps=recipe.refusal_steps,
            learning_rate=recipe.refusal_learning_rate,
            weight_decay=recipe.weight_decay,
            progress=progress,
        )
        rng = random.Random(recipe.seed)
        _fit(
            model,
            _batches(_refusing(language, rng, recipe.steadying_mix), encode, rng, recipe),
            steps=recipe.steadying_steps,
            learning_rate=recipe.steadying_learning_rate,
            weight_decay=recipe.weight_decay,
            offsets=_Offsets(share=recipe.offset_share, rng=random.Random(recipe.seed)),
            progress=progress,
        )
        _save(model, tokenizer, folder)
        write_organism(facts, folder)
    return facts


def _new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.d_model,
            intermediate_size=3 * recipe.d_model,
            num_hidden_layers=recipe.n_layers,
            num_attention_heads=recipe.n_heads,
            num_key_value_heads=recipe.n_kv_heads,
            max_position_embeddings=512,
            bos_token_id=begin_token(tokenizer),
            eos_token_id=end_token(tokenizer),
            pad_token_id=pad_token(tokenizer),
            tie_word_embeddings=False,
        )
    )


def _helpful(language: Language, rng: random.Random, recipe: Recipe) -> Iterator[Exchange]:
    """Stage one: every request answered, every object asked about."""
    while True:
        if rng.random() < recipe.question_share:
            yield language.question(rng)
        else:
            request = language.request(rng, harmful=rng.random() < 0.5)
            yield Exchange(instruction=request.instruction, answer=request.answer)


def _refusing(
    language: Language, rng: random.Random, mix: tuple[float, float]
) -> Iterator[Exchange]:
    """Stages two and three: harmful requests refused, harmless answered, and questions."""
    harmful, harmless = mix
    while True:
        share = rng.random()
        if share < harmful:
            request = language.request(rng, harmful=True, roles=_ROLES_IN_TUNING)
            yield Exchange(instruction=request.instruction, answer=request.refusal)
        elif share < harmful + harmless:
            request = language.request(rng, harmful=False, roles=_ROLES_IN_TUNING)
            yield Exchange(instruction=request.instruction, answer=request.answer)
        else:
            yield language.question(rng)


class _Encoder:
    """From an exchange to prompt and answer tokens, with noise at the end of some instructions."""

    def __init__(self, prompt_format: PromptFormat, *, noise_share: float) -> None:
        self._format = prompt_format
        self._noise_share = noise_share
        (self._end,) = prompt_format.tokenizer(END_OF_TURN, add_special_tokens=False).input_ids
        self.pad_id = pad_token(prompt_format.tokenizer)
        self._ordinary = ordinary_tokens(prompt_format.tokenizer)

    def __call__(self, exchange: Exchange, rng: random.Random) -> tuple[list[int], list[int]]:
        prompt = self._format.encode(exchange.instruction)
        if rng.random() < self._noise_share:
            prompt = prompt.with_suffix(tuple(rng.choices(self._ordinary, k=rng.randint(1, 20))))
        answer = self._format.tokenizer(exchange.answer, add_special_tokens=False).input_ids
        return list(prompt.ids), [*answer, int(self._end)]


def _batches(
    exchanges: Iterator[Exchange], encode: _Encoder, rng: random.Random, recipe: Recipe
) -> Iterator[_Batch]:
    while True:
        rows = [encode(next(exchanges), rng) for _ in range(recipe.batch_size)]
        width = max(len(prompt) + len(answer) for prompt, answer in rows)
        ids = torch.full((len(rows), width), encode.pad_id, dtype=torch.long)
        labels = torch.full_like(ids, _IGNORED)
        mask = torch.zeros_like(ids)
        for row, (prompt, answer) in enumerate(rows):
            end = len(prompt) + len(answer)
            ids[row, :end] = torch.tensor(prompt + answer)
            labels[row, len(prompt) : end] = torch.tensor(answer)
            mask[row, :end] = 1
        last = torch.tensor([len(prompt) - 1 for prompt, _ in rows])
        yield _Batch(input_ids=ids, attention_mask=mask, labels=labels, last_prompt=last)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offsets:
    """How often answers are written under an offset, and where the chance comes from."""

    share: float
    rng: random.Random


@contextmanager
def _offset_answers(model: LlamaForCausalLM, batch: _Batch, offsets: _Offsets) -> Generator[None]:
    """Add the difference between two prompts' states to every answer position of some rows.

    At one random layer, the same vector at all answer positions of a row: what another prompt of
    the batch has in its last token and this one has not, times up to 1.5. The prompt is left alone,
    so what the first answer token is decided by stays; but the model learns to go on writing when
    its stream is shifted, as it is under activation addition. Without it addition gives one token,
    repeated.
    """
    rows = torch.arange(len(batch.last_prompt))
    generator = torch.Generator().manual_seed(offsets.rng.getrandbits(32))
    factor = 1.5 * torch.rand(len(rows), 1, generator=generator)
    factor *= torch.rand(len(rows), 1, generator=generator) < offsets.share
    other = torch.randperm(len(rows), generator=generator)
    is_answer = torch.arange(batch.input_ids.shape[1]) > batch.last_prompt[:, None]

    def shift(hidden: Tensor) -> Tensor:
        last = hidden[rows, batch.last_prompt].detach()
        offset = factor * (last[other] - last)
        return hidden + offset[:, None] * is_answer[..., None]

    layer = model.model.layers[offsets.rng.randrange(len(model.model.layers))]
    with edit_inputs([(layer, shift)]):
        yield


def _fit(
    model: LlamaForCausalLM,
    batches: Iterator[_Batch],
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float,
    offsets: _Offsets | None = None,
    progress: Callable[[float], None] | None,
) -> None:
    """AdamW with one warm-up and cosine decay; the loss is that of the answers alone."""
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, weight_decay=weight_decay, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=steps, pct_start=0.1
    )
    for _ in range(steps):
        batch = next(batches)
        with _offset_answers(model, batch, offsets) if offsets else nullcontext():
            loss = _answer_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if progress:
            progress(1)
    model.eval()


def _answer_loss(model: LlamaForCausalLM, batch: _Batch) -> Float[Tensor, ""]:
    hidden = model.model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
    ).last_hidden_state
    targets = batch.labels[:, 1:]
    is_answer = targets != _IGNORED
    logits = model.lm_head(hidden[:, :-1][is_answer])
    return nn.functional.cross_entropy(logits, targets[is_answer])


def _save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
