"""What does not fit into the context: a counted line, and a run that ends."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from completed import completed
from sessions import in_session
from tiny_models import byte_tokenizer, save_tiny
from tiny_runs import contents, finish_run, instruction_files
from transformers import AutoModelForCausalLM, GPT2Config

from refusalscope.data.instruction import Instruction
from refusalscope.engine.rows import engine_of
from refusalscope.errors import InputError, InstructionsError
from refusalscope.generate.completions import CompletionJob, GenerationOptions
from refusalscope.measures.system_prompts.record import SystemPromptOptions
from refusalscope.models.chat_model import ChatModel, load_chat_model
from refusalscope.models.prompts import Prompt
from refusalscope.models.scored_text import ScoredText
from refusalscope.pipeline.conversation import Turn, encode_conversation
from refusalscope.pipeline.measure import measure
from refusalscope.pipeline.mechanism import mechanism
from refusalscope.pipeline.mechanism_options import MechanismOptions
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import run
from refusalscope.pipeline.stages import select
from refusalscope.results.measures import measure_named
from refusalscope.results.run_records import read_run


def save_gpt2(folder: Path, n_positions: int) -> Path:
    """A model with learned positions, which fails beyond the last."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=261,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=n_positions,
        bos_token_id=1,
        eos_token_id=4,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["learned", "rotary"])
def test_a_run_leaves_out_what_does_not_fit_and_says_what_and_how_many(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    folder = tmp_path / "model"
    if kind == "learned":
        save_gpt2(folder, 64)
    else:
        save_tiny(folder, max_position_embeddings=64)
    for path in instruction_files(tmp_path):
        long = [f"please {path.stem} " * 20 + f"{i}" for i in range(9)]
        path.write_text(path.read_text() + "".join(f"{text}\n" for text in long))
    with caplog.at_level(logging.WARNING, logger="refusalscope"):
        found = read_run(finish_run(tmp_path, folder, tmp_path / "run"))
    assert found.summary is not None
    lines = [line for line in found.summary.warnings if "do not fit" in line]
    assert lines
    assert all(line in caplog.text for line in lines)
    assert any(
        "instructions of harmful_train do not fit into the model's context of 64" in line
        and 'the first is "please harmful' in line
        for line in lines
    )
    assert not any("please" in row.instruction for row in found.completions)


def test_answers_end_where_the_context_does_and_that_is_said(tmp_path: Path) -> None:
    folder = save_gpt2(tmp_path / "model", 40)
    instruction_files(tmp_path)
    found = read_run(finish_run(tmp_path, folder, tmp_path / "run"))
    assert found.summary is not None
    assert not any("are cut where it ends" in line for line in found.summary.warnings)
    options = RunOptions.model_validate(
        {**found.manifest.options, "max_new_tokens": 30, "paper_generation": True}
    )
    summary = run(options, tmp_path / "longer")
    assert summary is not None
    (harmful, _harmless) = [line for line in summary.warnings if "are cut where it" in line]
    assert "3 of 3 prompts of harmful leave less than the 30 tokens" in harmful
    form = load_chat_model(str(folder)).prompt_format
    for row in read_run(tmp_path / "longer").completions:
        assert row.n_tokens == 40 - len(form.encode(row.instruction).ids)


def test_how_long_an_answer_may_be_depends_on_its_own_prompt_alone(tmp_path: Path) -> None:
    chat: ChatModel = load_chat_model(str(save_gpt2(tmp_path / "model", 40)))
    jobs = [
        CompletionJob(
            index=i, dataset="d", condition="baseline", instruction=Instruction(text), prompt=prompt
        )
        for i, text in enumerate(["a" * 30, "b", "c" * 20, "d" * 30])
        for prompt in chat.encode([text])
    ]
    options = GenerationOptions(max_new_tokens=25, stop_at_end_of_turn=False)
    together = completed(chat, jobs, interventions={"baseline": None}, options=options)
    alone = [
        row
        for job in jobs
        for row in completed(chat, [job], interventions={"baseline": None}, options=options)
    ]
    assert together == alone
    assert [row.n_tokens for row in together] == [6, 25, 16, 6]


def test_a_set_of_nothing_but_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    folder = save_gpt2(tmp_path / "model", 24)
    instruction_files(tmp_path)
    with pytest.raises(InstructionsError, match="6 of 6 instructions of harmful_train do not fit"):
        finish_run(tmp_path, folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_selection_tokenizes_each_validation_prompt_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny(tmp_path / "model")
    instruction_files(tmp_path)
    finish_run(tmp_path, folder, tmp_path / "run")
    sizes: list[int] = []
    whole = ChatModel.encode

    def counted(chat: ChatModel, instructions: list[str]) -> list:
        sizes.append(len(instructions))
        return whole(chat, instructions)

    from refusalscope.pipeline.context import Silent
    from refusalscope.pipeline.reopen import reopen

    context = reopen(tmp_path / "run", progress=Silent())
    monkeypatch.setattr(ChatModel, "encode", counted)
    select(context)
    assert sum(sizes) == 6


def test_a_model_that_answers_nothing_has_a_run_that_ends_without_a_loss(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refusalscope.generate import answers

    folder = save_tiny(tmp_path / "model")
    instruction_files(tmp_path)
    monkeypatch.setattr(answers, "end_of_turn_ids", lambda _chat: frozenset(range(261)))
    found = read_run(finish_run(tmp_path, folder, tmp_path / "run"))
    assert found.summary is not None
    assert found.summary.loss == {}
    assert "all 3 answers on harmless are empty; no loss is measured" in caplog.text


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a model with forty positions."""
    folder = tmp_path_factory.mktemp("narrow")
    save_gpt2(folder / "model", 40)
    instruction_files(folder)
    return finish_run(folder, folder / "model", folder / "run")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"suffix": "given"}, r"3 of 3 prompts with --suffix of 41 tokens .* context of 40"),
        ({"suffix_tokens": 41}, r"9 of 9 prompts with --suffix-tokens of 41 .* shorter suffix"),
        (
            {"suffix_tokens": 3, "texts": ("a" * 50,)},
            r"1 of 1 prompts do not fit into the model's context of 40",
        ),
    ],
)
def test_a_mechanism_past_the_context_is_refused_before_anything_is_done(
    narrow: Path, tmp_path: Path, asked: dict, message: str
) -> None:
    if "suffix" in asked:
        (tmp_path / "suffix.txt").write_text(" " + "x" * 40 + "\n")
        asked = {"suffix": str(tmp_path / "suffix.txt")}
    before = contents(narrow)
    with pytest.raises((InputError, InstructionsError), match=message):
        in_session(mechanism, narrow, MechanismOptions.model_validate(asked))
    assert contents(narrow) == before


def test_a_system_prompt_past_the_context_is_one_line_and_nothing_is_written(
    narrow: Path, tmp_path: Path
) -> None:
    run_folder = Path(shutil.copytree(narrow, tmp_path / "run"))
    manifest = json.loads((run_folder / "run.json").read_text())
    before = contents(run_folder)
    (tmp_path / "prompts.json").write_text(json.dumps({"a": "b", "z": "s" * 40}))
    options = SystemPromptOptions(file=str(tmp_path / "prompts.json"))
    with pytest.raises(InstructionsError, match=r"3 of 3 prompts do not fit .* or the system pr"):
        in_session(measure, run_folder, measure_named("system-prompts"), options)
    assert contents(run_folder) == before
    assert manifest["options"]["system"] is None


def test_a_conversation_past_the_context_is_told_by_itself(narrow: Path) -> None:
    """Inspect asks many at a time: one that is too long must not end the others' batch."""
    chat = load_chat_model(json.loads((narrow / "run.json").read_text())["options"]["model"])
    said = [Turn(role="user", text="a"), Turn(role="assistant", text="b" * 20)]
    for turns in ([*said, Turn(role="user", text="c" * 20)], [Turn(role="user", text="c" * 40)]):
        with pytest.raises(InstructionsError, match=r"1 of 1 prompts do not fit .* 'cccc"):
            encode_conversation(chat, turns)
    assert chat.room(encode_conversation(chat, [*said, Turn(role="user", text="c")])) >= 1


def test_no_row_of_any_kind_is_run_beyond_the_context(tmp_path: Path) -> None:
    chat: ChatModel = load_chat_model(str(save_gpt2(tmp_path / "model", 40)))
    engine = engine_of(chat)

    def both(n: int) -> None:
        prompt, text = Prompt(ids=(9,) * n, n_post=1), ScoredText(ids=(9,) * n, first=0)
        list(engine.run([prompt], lambda step: step.rows))
        list(engine.run_alike([prompt], lambda _rows, ids: chat.model(input_ids=ids)))
        list(engine.score([text], engine.scored))

    both(40)
    for name in ("run", "run_alike", "score"):
        with pytest.raises(InputError, match="has 41 tokens, the model's context is 40"):
            row = (
                ScoredText(ids=(9,) * 41, first=0)
                if name == "score"
                else Prompt(ids=(9,) * 41, n_post=1)
            )
            list(getattr(engine, name)([row], lambda *given: given))
