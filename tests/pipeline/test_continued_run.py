"""What a run decided when it began is read from its folder when it is continued."""

import json
import re
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from sessions import in_session
from tiny_models import TEMPLATE, byte_tokenizer, save_tiny
from tiny_runs import finish_run, instruction_files

from refusalscope.errors import ChatTemplateError, RunFolderError
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import kept_format, model_format
from refusalscope.pipeline.context import Silent
from refusalscope.pipeline.conversation import Turn, encode_conversation
from refusalscope.pipeline.measure import measure
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.reopen import own_options, reopen
from refusalscope.pipeline.run import run
from refusalscope.results.measures import measure_named
from refusalscope.results.record import canonical_json
from refusalscope.results.run_records import read_run

ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "s": "system",
    "u": "user",
    "a": "assistant",
}
SECONDS = TEMPLATE.replace(
    "{{ bos_token }}", "{{ bos_token }}{{ strftime_now('%Y-%m-%d %H:%M:%S.%f') }}\n"
)


class Later(date):
    """A calendar that shows another day."""

    @classmethod
    def today(cls) -> "Later":
        """Many years from now."""
        return cls(2099, 12, 31)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> str:
    """On another day; how templates print it."""
    monkeypatch.setattr("refusalscope.models.prompts.date", Later)
    return Later.today().isoformat()


def changed(folder: Path, change: dict[str, object], part: str) -> None:
    """Change fields of a part of run.json by hand."""
    manifest = json.loads((folder / "run.json").read_text())
    manifest[part].update(change)
    (folder / "run.json").write_text(canonical_json(manifest))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a model whose template prints day and time."""
    folder = tmp_path_factory.mktemp("original")
    instruction_files(folder)
    save_tiny(folder / "tiny")
    (folder / "tiny" / "chat_template.jinja").write_text(SECONDS)
    return finish_run(folder, folder / "tiny", folder / "run")


@pytest.fixture
def finished(original: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(original, tmp_path / "run"))


def test_a_template_that_prints_the_time_is_rendered_once_and_kept(
    finished: Path, later: str
) -> None:
    kept = read_run(finished).manifest.model.rendered
    assert kept is not None
    assert kept.day is not None
    assert f"{kept.day} 00:00:00.000000\n" in kept.before
    assert later not in kept.before
    prompts = reopen(finished, progress=Silent()).prompts("harmful")
    again = reopen(finished, progress=Silent()).prompts("harmful")
    assert prompts == again
    tokenizer = byte_tokenizer()
    spoken = str(tokenizer.decode(list(prompts[0].ids), skip_special_tokens=False))
    assert spoken.startswith(kept.before)


@pytest.mark.usefixtures("later")
def test_a_run_with_the_time_in_its_template_goes_on_later(finished: Path) -> None:
    summary = (finished / "summary.json").read_bytes()
    completions = {p.name: p.read_bytes() for p in (finished / "completions").iterdir()}
    manifest = json.loads((finished / "run.json").read_text())
    manifest["stages"] = {name: manifest["stages"][name] for name in ("extract", "select")}
    (finished / "run.json").write_text(canonical_json(manifest))
    shutil.rmtree(finished / "completions")
    run(own_options(finished, trust_remote_code=False), finished)
    assert {p.name: p.read_bytes() for p in (finished / "completions").iterdir()} == completions
    assert (finished / "summary.json").read_bytes() == summary
    assert in_session(measure, finished, measure_named("drift"))


def test_a_rendering_that_was_changed_by_hand_is_refused(finished: Path) -> None:
    kept = read_run(finished).manifest.model.rendered
    assert kept is not None
    other = kept.model_copy(update={"before": kept.before + "x"})
    changed(finished, {"rendered": other.model_dump(mode="json")}, "model")
    with pytest.raises(RunFolderError, match="chat template was"):
        reopen(finished, progress=Silent())


def test_the_kept_rendering_gives_the_format_back() -> None:
    tokenizer = byte_tokenizer()
    form = model_format(tokenizer)
    kept = kept_format(tokenizer, form.rendered())
    assert kept == form
    assert kept.sha256() == form.sha256()


@pytest.mark.parametrize("roles", ["su", "uau", "suau"])
def test_what_is_rendered_later_is_told_the_day_of_the_run(
    finished: Path, later: str, caplog: pytest.LogCaptureFixture, roles: str
) -> None:
    kept = read_run(finished).manifest.model.rendered
    assert kept is not None
    chat = reopen(finished, progress=Silent()).chat
    assert not caplog.text
    text = conversation_text(chat, roles)
    assert text.startswith(kept.before.removesuffix("<user>"))
    assert later not in text


def test_a_run_that_does_not_say_its_day_is_told_so_and_goes_on_with_today(
    finished: Path, later: str, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = json.loads((finished / "run.json").read_text())
    del manifest["model"]["rendered"]["day"]
    (finished / "run.json").write_text(canonical_json(manifest))
    chat = reopen(finished, progress=Silent()).chat
    assert caplog.text.count("prints the time and the run does not say which day") == 1
    assert later in conversation_text(chat, "su")


def test_what_answers_begin_with_is_behind_every_conversation(finished: Path) -> None:
    chat = reopen(finished, progress=Silent()).chat
    begun = replace(chat, prompt_format=chat.prompt_format.with_answer_prefix("Sure"))
    for roles in ("u", "su", "uau"):
        assert conversation_text(begun, roles) == conversation_text(chat, roles) + "Sure"


def conversation_text(chat: ChatModel, roles: str) -> str:
    """A conversation of system, user and assistant as the model is asked it."""
    turns = [Turn(role=ROLES[role], text=f"say {at}") for at, role in enumerate(roles)]
    ids = list(encode_conversation(chat, turns).ids)
    return str(chat.tokenizer.decode(ids, skip_special_tokens=False))


@pytest.mark.parametrize(
    "drawn", ["{{ ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'] | random }}", "{{ range(9) | random }}x"]
)
def test_a_template_that_draws_words_at_random_is_refused_in_one_line(drawn: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATE.replace("{{ bos_token }}", "{{ bos_token }}" + drawn * 9)
    with pytest.raises(ChatTemplateError, match="another text each time"):
        model_format(tokenizer)


def test_a_template_that_changes_the_instruction_is_still_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = SECONDS.replace("m['content']", "m['content'] | upper")
    with pytest.raises(ChatTemplateError):
        model_format(tokenizer)


def test_refusal_tokens_are_read_from_the_run_and_not_proposed_anew(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        pytest.fail("refusal tokens were sought again")

    tokens = {"ids": [7, 8], "strings": ["a", "b"], "source": "proposed"}
    changed(finished, {"refusal_tokens": tokens}, "model")
    monkeypatch.setattr("refusalscope.pipeline.run.fixed_refusal_tokens", fail)
    assert reopen(finished, progress=Silent()).refusal_tokens == (7, 8)


@pytest.mark.parametrize("ids", [[], [-1], [10**9]])
def test_refusal_tokens_that_the_model_has_not_are_named(finished: Path, ids: list[int]) -> None:
    tokens = {"ids": ids, "strings": ["a"] * len(ids), "source": "given"}
    changed(finished, {"refusal_tokens": tokens}, "model")
    with pytest.raises(RunFolderError, match=r"has the refusal tokens .* tokens 0 to 260"):
        reopen(finished, progress=Silent())


def test_a_model_is_loaded_in_the_dtype_of_its_run_on_whatever_device(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(finished, {"dtype": "float16"}, "model")
    assert reopen(finished, progress=Silent()).chat.model.dtype == torch.float16
    monkeypatch.setattr("refusalscope.pipeline.run.replace", lambda options, **_: options)
    with pytest.raises(RunFolderError, match="type of its numbers was 'float16', now 'float32'"):
        reopen(finished, progress=Silent())


def test_other_weights_are_refused_before_they_are_loaded(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        pytest.fail("the model was loaded")

    given = Path(shutil.copytree(original.parent, tmp_path / "given"))
    finished, file = given / "run", given / "tiny" / "model.safetensors"
    changed(finished, {"model": str(given / "tiny")}, "options")
    weights = load_file(file)
    weights["lm_head.weight"] += 1
    save_file(weights, file, metadata={"format": "pt"})
    monkeypatch.setattr("refusalscope.pipeline.run.load_chat_model", fail)
    with pytest.raises(RunFolderError, match="model weights was"):
        reopen(finished, progress=Silent())


def bumped(version: str, part: int) -> str:
    numbers = version.partition("+")[0].split(".")
    numbers[part] = str(int(re.match(r"\d+", numbers[part])[0]) + 1)  # pyright: ignore[reportOptionalSubscript] # versions are numbers
    return ".".join(numbers)


def test_a_patch_release_is_said_and_another_release_refused(
    finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    versions = read_run(finished).manifest.versions
    changed(finished, {"torch": bumped(versions["torch"], 2)}, "versions")
    changed(finished, {"python": bumped(versions["python"], 2)}, "versions")
    reopen(finished, progress=Silent())
    assert f"was made with torch {bumped(versions['torch'], 2)}; it goes on with" in caplog.text
    assert "was made with python" in caplog.text
    changed(finished, {"torch": versions["torch"] + "+cu999"}, "versions")
    reopen(finished, progress=Silent())
    changed(finished, {"torch": bumped(versions["torch"], 1)}, "versions")
    with pytest.raises(RunFolderError, match="version of torch was"):
        reopen(finished, progress=Silent())


def test_an_option_that_the_run_does_not_know_is_taken_at_its_default(finished: Path) -> None:
    manifest = json.loads((finished / "run.json").read_text())
    del manifest["options"]["all_scores"]
    (finished / "run.json").write_text(canonical_json(manifest))
    assert reopen(finished, progress=Silent()).options == own_options(
        finished, trust_remote_code=False
    )
    assert isinstance(own_options(finished, trust_remote_code=False), RunOptions)
