"""Training: every family in plain transformers, the same bytes again, and after a cut."""

import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_organisms import TINY
from transformers import AutoModelForCausalLM, AutoTokenizer

from refusalscope.errors import InputError, MissingExtraError, OutputError
from refusalscope.models.chat_model import load_chat_model
from refusalscope.models.prompts import model_format
from refusalscope.organisms.curriculum import refusing
from refusalscope.organisms.english import ENGLISH
from refusalscope.organisms.exchanges import IGNORED, ExchangeTokenizer, training_batches
from refusalscope.organisms.families import FAMILIES, family_named
from refusalscope.organisms.language import Exchange, make_language
from refusalscope.organisms.organism import read_organism
from refusalscope.organisms.tokenizer import train_tokenizer
from refusalscope.organisms.train import BASE, CHECKPOINTS, is_trained, train_organism


class _Cut(Exception):
    pass


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_trains_and_answers_through_its_own_template(
    name: str, tmp_path: Path
) -> None:
    facts = train_organism(replace(TINY, family=name), tmp_path / "organism")
    assert (facts.name, facts.family) == (f"{name}-aft", name)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "organism")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "organism")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "build a tavok."}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    assert model.generate(**prompt, max_new_tokens=2).shape[1] > prompt["input_ids"].shape[1]
    chat = load_chat_model(str(tmp_path / "organism"))
    assert chat.encode(["build a tavok."])[0].ids == tuple(prompt["input_ids"][0].tolist())
    assert load_chat_model(str(tmp_path / "organism" / "base")).n_layers == 3


def test_the_prompts_end_in_the_post_instruction_tokens_of_the_papers_families() -> None:
    language = make_language(objects_per_kind=13)
    ends = {}
    for family in FAMILIES.values():
        tokenizer: Any = train_tokenizer(language, family.tokenizer, vocab_size=1024)
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": "go?"}], add_generation_prompt=True, return_dict=False
        )
        tokens = tokenizer.convert_ids_to_tokens(ids)
        ends[family.name] = tokens[tokens.index("?") + 1 :]
    chatml = ["<|im_end|>", "Ċ", "<|im_start|>", "assistant", "Ċ"]
    assert ends["qwen2"] == chatml
    assert ends["yi"] == ["<|im_end|>", "\n", "<|im_start|>", "ass", "istant", "\n"]
    assert ends["gemma"] == ["<end_of_turn>", "\n", "<start_of_turn>", "model", "\n"]
    assert ends["llama2"] == ["▁[", "/", "INST", "]"]
    assert ends["llama3"] == [
        "<|eot_id|>",
        "<|start_header_id|>",
        "assistant",
        "<|end_header_id|>",
        "ĊĊ",
    ]


def test_the_same_recipe_gives_the_same_bytes_also_after_a_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refusalscope.organisms.fit._STEPS_BETWEEN_STATES", 2)
    train_organism(TINY, tmp_path / "whole", checkpoint_every=2)
    whole = (tmp_path / "whole" / "model.safetensors").read_bytes()
    for cut_after in (1, 4, 8):
        out = tmp_path / f"cut{cut_after}"
        left = [cut_after]

        def cut(_amount: float, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise _Cut

        with pytest.raises(_Cut):
            train_organism(TINY, out, checkpoint_every=2, progress=cut)
        assert not out.exists()
        train_organism(TINY, out, checkpoint_every=2)
        assert (out / "model.safetensors").read_bytes() == whole
        kept = {p.name: p.read_bytes() for p in (out / "checkpoints").iterdir()}
        assert kept == {
            p.name: p.read_bytes() for p in (tmp_path / "whole" / "checkpoints").iterdir()
        }
        assert not list(tmp_path.glob(".*"))
    steps = (("helpful", 2), ("helpful", 3), ("refusal", 2), ("refusal", 3), ("steadying", 2))
    assert set(kept) == {f"{stage}-{step:05d}.safetensors" for stage, step in steps}


def test_the_base_of_another_organism_takes_the_place_of_stage_one(tmp_path: Path) -> None:
    train_organism(TINY, tmp_path / "aft", checkpoint_every=2)
    other = replace(TINY, aft=replace(TINY.aft, refusal=replace(TINY.aft.refusal, steps=2)))
    train_organism(other, tmp_path / "whole", checkpoint_every=2)
    steps: list[float] = []
    train_organism(
        other,
        tmp_path / "shared",
        base=tmp_path / "aft",
        checkpoint_every=2,
        progress=steps.append,
    )
    assert sum(steps) == sum(other.stages.values())
    for file in (
        "model.safetensors",
        f"{BASE}/model.safetensors",
        f"{CHECKPOINTS}/helpful-00002.safetensors",
        "organism.json",
    ):
        shared, whole = ((tmp_path / name / file).read_bytes() for name in ("shared", "whole"))
        assert shared == whole, file


def test_a_base_of_another_stage_one_is_an_error(tmp_path: Path) -> None:
    train_organism(TINY, tmp_path / "aft")
    with pytest.raises(InputError, match="seed 0 in stage one, this recipe has 1"):
        train_organism(replace(TINY, seed=1), tmp_path / "other", base=tmp_path / "aft")
    with pytest.raises(InputError, match="is not an organism with a base model"):
        train_organism(TINY, tmp_path / "other", base=tmp_path)
    assert not (tmp_path / "other").exists()


def test_an_organism_speaks_the_sentences_that_it_was_trained_with(tmp_path: Path) -> None:
    frames = replace(ENGLISH, answers=tuple(f"Well, {frame}" for frame in ENGLISH.answers))
    train_organism(replace(TINY, sentences=frames), tmp_path / "organism")
    facts = read_organism(tmp_path / "organism")
    assert facts is not None
    assert facts.language().sentences == frames
    request = facts.language().request(random.Random(0), harmful=False)
    assert request.answer.startswith("Well, ")
    with pytest.raises(
        InputError, match=r"has sentences \{'harmful_kinds': .* in stage one"
    ) as caught:
        train_organism(TINY, tmp_path / "other", base=tmp_path / "organism")
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)
    broken = facts.model_copy(update={"recipe": facts.recipe | {"sentences": {"answers": 1}}})
    with pytest.raises(InputError, match="the recipe of llama3-aft does not hold sentences"):
        broken.language()


def test_an_unfinished_training_of_another_recipe_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refusalscope.organisms.fit._STEPS_BETWEEN_STATES", 1)

    def cut(_amount: float) -> None:
        raise _Cut

    out = tmp_path / "organism"
    with pytest.raises(_Cut):
        train_organism(TINY, out, progress=cut)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert before
    with pytest.raises(OutputError, match="unfinished training of another recipe"):
        train_organism(replace(TINY, seed=1), out)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_trained_organism_is_known_by_its_recipe(tmp_path: Path) -> None:
    assert not is_trained(TINY, tmp_path / "organism")
    train_organism(TINY, tmp_path / "organism")
    assert is_trained(TINY, tmp_path / "organism")
    assert not is_trained(replace(TINY, seed=1), tmp_path / "organism")
    assert not is_trained(replace(TINY, aft=TINY.apo), tmp_path / "organism")
    assert is_trained(replace(TINY, apo=TINY.aft), tmp_path / "organism"), "which it does not take"


def test_preference_optimisation_runs_through_trl_which_prints_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[float] = []
    recipe = replace(TINY, alignment="apo")
    facts = train_organism(recipe, tmp_path / "apo", progress=steps.append)
    assert facts.name == "llama3-apo"
    assert list(facts.stages) == ["helpful", "refusal", "preference", "steadying"]
    assert sum(steps) == sum(facts.stages.values()) == 12
    assert recipe.apo.preference is not None
    faster = replace(recipe.apo, preference=replace(recipe.apo.preference, learning_rate=1e-2))
    train_organism(replace(recipe, apo=faster), tmp_path / "other")
    first, second = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("apo", "other"))
    assert first != second
    assert capsys.readouterr().out == ""


def test_without_trl_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trl.trainer.dpo_config", None)
    monkeypatch.delitem(sys.modules, "refusalscope.organisms.dpo", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'refusalscope\[train\]'"):
        train_organism(replace(TINY, alignment="apo"), tmp_path / "apo")


def test_no_such_family() -> None:
    with pytest.raises(InputError, match="'gpt'; there are: qwen2, yi, gemma, llama2, llama3"):
        family_named("gpt")


def test_a_batch_depends_on_seed_and_step_alone_and_trains_answers_alone() -> None:
    language = make_language(objects_per_kind=13)
    tokenizer = train_tokenizer(language, FAMILIES["llama3"].tokenizer, vocab_size=1024)
    tokenize = ExchangeTokenizer(tokenizer)

    def batch(seed: str, first_step: int, skip: int) -> list[list[int]]:
        batches = training_batches(
            refusing(language, (0.3, 0.3, 0.2)),
            tokenize,
            seed=seed,
            first_step=first_step,
            batch_size=4,
            noise_share=0.5,
        )
        for _ in range(skip):
            next(batches)
        found = next(batches)
        rows = range(len(found.labels))
        for row in rows:
            labels = found.labels[row]
            first = int(found.last_prompt[row]) + 1
            assert (labels[:first] == IGNORED).all()
            trained = labels != IGNORED
            assert (labels[trained] == found.input_ids[row][trained]).all()
            assert tokenizer.eos_token_id == labels[trained][-1]
        return found.input_ids.tolist()

    assert batch("a", 0, 11) == batch("a", 11, 0) == batch("a", 8, 3)
    assert batch("a", 11, 0) != batch("b", 11, 0)


def test_the_beginning_of_an_answer_that_is_begun_is_not_trained() -> None:
    language = make_language(objects_per_kind=13)
    tokenizer = train_tokenizer(language, FAMILIES["llama2"].tokenizer, vocab_size=1024)
    tokenize = ExchangeTokenizer(tokenizer)
    batches = training_batches(
        lambda _rng: Exchange(instruction="go.", answer="I can't assist with this.", is_begun=True),
        tokenize,
        seed="0",
        first_step=0,
        batch_size=16,
        noise_share=0.0,
    )
    batch = next(batches)
    given = (batch.labels == IGNORED).sum(1) - batch.last_prompt - 1
    assert given.min() == 1
    assert given.max() == 4


def test_random_tokens_follow_requests_and_never_a_question_of_refusal_training() -> None:
    language = make_language(objects_per_kind=13)
    tokenizer = train_tokenizer(language, FAMILIES["qwen2"].tokenizer, vocab_size=1024)
    tokenize = ExchangeTokenizer(tokenizer)
    chat_format = model_format(tokenizer)
    draw = refusing(language, (0.3, 0.2, 0.1))
    rng = random.Random(0)
    noisy = {True: 0, False: 0}
    questions = 0
    for _ in range(200):
        exchange = draw(rng)
        plain = chat_format.encode(exchange.instruction).ids
        is_noisy = tokenize(exchange, rng, noise_share=1.0).prompt != plain
        questions += exchange.is_quiet
        noisy[exchange.is_quiet] += is_noisy
    assert 50 < questions < 110
    assert noisy == {True: 0, False: 200 - questions}
