"""What every answer begins with belongs to the prompt."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tiny_models import save_tiny, tiny_chat
from tiny_runs import instruction_files

from refusalscope.generate.greedy import Generated
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt, kept_format
from refusalscope.pipeline import answer_prefix
from refusalscope.pipeline.answer_prefix import closed, common_start, with_common_start
from refusalscope.pipeline.context import Silent
from refusalscope.pipeline.instructions import read_instruction_sets
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import load, run
from refusalscope.results.run_records import read_run


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> RunOptions:
    folder = tmp_path_factory.mktemp("given")
    harmful, harmless = instruction_files(folder)
    return RunOptions(
        model=str(save_tiny(folder / "tiny")),
        harmful=str(harmful),
        harmless=str(harmless),
        n_train=10,
        n_val=3,
        n_test=3,
        batch_size=4,
    )


Answers = Callable[[str, str], None]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Let harmful and harmless prompts be answered by texts with {} for what differs."""

    def say(harmful: str, harmless: str) -> None:
        asked: list[str] = [harmful, harmless]

        def generate(
            chat: ChatModel, prompts: Sequence[Prompt], *, max_new_tokens: int
        ) -> list[Generated]:
            text = asked.pop(0)
            words = [text.replace("{}", chr(97 + i)) for i in range(len(prompts))]
            return [
                Generated(
                    ids=tuple(chat.tokenizer(word, add_special_tokens=False).input_ids),
                    text=word,
                    ended=max_new_tokens > len(word),
                )
                for word in words
            ]

        monkeypatch.setattr(answer_prefix, "generate_greedy", generate)

    return say


def _prefix(given: RunOptions, folder: Path) -> str:
    chat = tiny_chat(folder)
    sets = read_instruction_sets(given, None)
    return with_common_start(chat, sets).prompt_format.answer_prefix


@pytest.mark.parametrize(
    ("said", "prefix"),
    [
        (("Sure{}", "Sure{}"), "Sure"),
        (("<model>{} cannot", "<model>{}"), "<model>"),
        (("<think>\n{}", "<think>\n{}"), "<think>\n\n</think>\n\n"),
        (("{}", "{}"), ""),
        (("I{}", "Here{}"), ""),
        (("all the same thing", "all the same thing"), ""),
        (("I cannot help with {}", "I cannot help with {}"), ""),
        (("I cannot{}", "I can{}"), "I can"),
    ],
)
def test_what_all_answers_begin_with_is_found(
    given: RunOptions, tmp_path: Path, answers: Answers, said: tuple[str, str], prefix: str
) -> None:
    answers(*said)
    assert _prefix(given, tmp_path / "tiny") == prefix


def test_one_answer_has_nothing_in_common_with_others() -> None:
    assert common_start([(1, 2, 3)]) == ()
    assert common_start([(1, 2, 3), (1, 2, 4)]) == (1, 2)


def test_a_block_of_reasoning_that_is_opened_is_closed() -> None:
    assert closed("Sure") == "Sure"
    assert closed("<think>\n") == "<think>\n\n</think>\n\n"
    assert closed("<think>\n\n</think>\n\n") == "<think>\n\n</think>\n\n"


def test_the_prefix_ends_every_prompt_and_has_positions_of_its_own(tmp_path: Path) -> None:
    chat = tiny_chat(tmp_path / "tiny")
    begun = chat.with_answer_prefix("<model>ok")
    (plain,), (prompt,) = chat.encode(["go home"]), begun.encode(["go home"])
    end = tuple(chat.tokenizer("<model>ok", add_special_tokens=False).input_ids)
    assert len(end) == 3, "a control token, and two bytes"
    assert prompt.ids == (*plain.ids, *end)
    assert len(begun.positions) == len(chat.positions) + 3
    kept = kept_format(chat.tokenizer, begun.prompt_format.rendered())
    assert kept == begun.prompt_format
    assert kept.sha256() != chat.prompt_format.sha256()


def test_a_run_says_what_it_found_and_goes_on_with_it(
    given: RunOptions, tmp_path: Path, answers: Answers
) -> None:
    answers("Sure{}", "Sure{}")
    out = tmp_path / "out"
    run(given, out, until="extract")
    manifest = read_run(out).manifest
    assert manifest.model.rendered is not None
    assert manifest.model.rendered.answer_prefix == "Sure"
    assert manifest.model.post_instruction_tokens[-4:] == ("S", "u", "r", "e")
    found = read_run(out).extraction or read_run(out).no_direction
    assert found is not None
    context = load(given, out, progress=Silent())
    assert context.chat.prompt_format.answer_prefix == "Sure", "it is not looked for again"


@pytest.mark.parametrize(
    ("changes", "prefix"),
    [
        ({"answer_prefix": "ok"}, "ok"),
        ({"answer_prefix": ""}, ""),
        ({"label": "metric", "refusal_tokens": ("c",)}, ""),
        ({"filter_instructions": False, "refusal_tokens": ("c",)}, ""),
    ],
)
def test_it_is_looked_for_only_where_nobody_decided(
    given: RunOptions, tmp_path: Path, answers: Answers, changes: dict[str, object], prefix: str
) -> None:
    answers("Sure{}", "Sure{}")
    options = given.model_copy(update=changes)
    chat = load(options, tmp_path / "out", progress=Silent()).chat
    assert chat.prompt_format.answer_prefix == prefix
