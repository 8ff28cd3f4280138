"""Whatever is wrong with what a user gives ends in one line, status 2, and nothing written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import byte_tokenizer
from tiny_runs import Caller, contents, results
from transformers import BertConfig, BertModel, T5Config, T5ForConditionalGeneration

Words = list[str | Path]
Damage = Callable[[Path], object]


def without_tokenizer(model: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).unlink()


def without_template(model: Path) -> None:
    (model / "chat_template.jinja").unlink()


def cut(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def change_weights(model: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = model / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def with_nan(model: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.1.mlp.down_proj.weight"][3, 3] = float("nan")

    change_weights(model, change)


def with_missing_weights(model: Path) -> None:
    change_weights(model, lambda tensors: tensors.pop("model.layers.1.mlp.down_proj.weight"))


def encoder(model: Path) -> None:
    shutil.rmtree(model)
    config = BertConfig(
        vocab_size=261,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
    )
    BertModel(config).save_pretrained(model)
    byte_tokenizer().save_pretrained(model)


def encoder_decoder(model: Path) -> None:
    shutil.rmtree(model)
    config = T5Config(
        vocab_size=261, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=2, pad_token_id=0
    )
    T5ForConditionalGeneration(config).save_pretrained(model)
    byte_tokenizer().save_pretrained(model)


MODELS: dict[str, tuple[Damage, str]] = {
    "no such model": (shutil.rmtree, "there is no model at "),
    "an empty folder": (lambda m: [p.unlink() for p in m.iterdir()], "has no config.json"),
    "no tokenizer": (without_tokenizer, "has no tokenizer"),
    "no chat template": (without_template, "has no chat template"),
    "an encoder": (encoder, "is a BertModel, not a decoder-only language model"),
    "an encoder and decoder": (encoder_decoder, "is a T5ForConditionalGeneration, not a decoder"),
    "no weights": (lambda m: (m / "model.safetensors").unlink(), "has no .safetensors file"),
    "truncated weights": (cut, "is not a whole safetensors file"),
    "NaN in the weights": (with_nan, "down_proj.weight of "),
    "missing weights": (with_missing_weights, "lacks 1 weights of its architecture"),
    "a config that is no JSON": (
        lambda m: (m / "config.json").write_text("{"),
        "config.json of ",
    ),
    "a config of an unknown architecture": (
        lambda m: (m / "config.json").write_text('{"model_type": "no_such_model"}'),
        "config.json of ",
    ),
    "a damaged tokenizer": (
        lambda m: (m / "tokenizer.json").write_text("[]"),
        "the tokenizer of ",
    ),
}


@pytest.mark.parametrize("case", MODELS.values(), ids=MODELS)
def test_a_model_that_cannot_be_used_is_one_line(
    refusalscope: Caller,
    given: Path,
    run_words: Words,
    tmp_path: Path,
    case: tuple[Damage, str],
) -> None:
    damage, message = case
    model = tmp_path / "model"
    shutil.copytree(given / "tiny", model)
    damage(model)
    before = contents(tmp_path)
    called = refusalscope("run", model, *run_words[2:], "--out", "out")
    assert message in called.line
    assert contents(tmp_path) == before
    assert not (tmp_path / "out").exists()


HARMLESS = "".join(f"paint wall {i}\n" for i in range(40))
FILES: dict[str, tuple[str, str, str]] = {
    "empty": ("harmful.txt", "", "is empty"),
    "blank": ("harmful.txt", "\n \n", "is empty"),
    "an empty list": ("harmful.json", "[]", "holds no instructions"),
    "a row without an instruction": (
        "harmful.json",
        json.dumps([{"instruction": "break it"}, {"category": "locks"}]),
        "row 2 has the columns",
    ),
    "an empty instruction": ("harmful.jsonl", '{"instruction": "  "}\n', "line 1"),
    "JSON that is text": ("harmful.json", "break the lock\n", "is not JSON"),
    "text that is JSON": ("harmful.txt", '["break the lock"]\n', "let its name end in .json"),
    "parquet that is text": ("harmful.parquet", "break the lock\n", "is not a Parquet file"),
    "an unknown ending": ("harmful.docx", "break the lock\n", "harmful.docx"),
    "too few to divide": ("harmful.txt", "break the lock\n", "leave none for"),
    "an overlap": ("harmful.txt", HARMLESS, "share"),
}


@pytest.mark.parametrize("case", FILES.values(), ids=FILES)
def test_instructions_that_cannot_be_used_are_one_line(
    refusalscope: Caller, given: Path, tmp_path: Path, case: tuple[str, str, str]
) -> None:
    name, text, message = case
    (tmp_path / name).write_text(text)
    (tmp_path / "harmless.txt").write_text(HARMLESS)
    before = contents(tmp_path)
    words = ["--harmful", name, "--harmless", "harmless.txt", "--out", "out"]
    called = refusalscope("run", given / "tiny", *words)
    assert message in called.line
    assert contents(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_a_file_that_does_not_exist_is_one_line(refusalscope: Caller, given: Path) -> None:
    called = refusalscope("run", given / "tiny", "--harmful", "a.txt", "--harmless", "b.txt")
    assert "a.txt does not exist" in called.line


OPTIONS: dict[str, tuple[list[str], str]] = {
    "harmful alone": (["--harmful", "harmful.txt"], "belong together"),
    "harmless alone": (["--harmless", "harmless.txt"], "belong together"),
    "splits and files": (
        ["--harmful", "harmful.txt", "--harmless", "harmless.txt", "--splits", "splits"],
        "exclude each other",
    ),
    "no instructions": ([], "no instructions: give --harmful and --harmless"),
    "splits that do not exist": (["--splits", "splits"], "splits"),
    "another rule": (
        ["--rule", "foo"],
        "--rule is 'foo': input should be 'auto', 'published', 'code' or 'calibrated'",
    ),
    "another dtype": (["--dtype", "int3"], "--dtype is 'int3': input should be 'auto'"),
    "another template": (["--template", "mine"], "--template is 'mine'"),
    "no limit": (["--max-kl", "nan"], "'--max-kl': nan is not in the range"),
    "no number": (["--seed", "x"], "'--seed'"),
    "no batch": (["--batch-size", "0"], "'--batch-size'"),
    "an unknown option": (["--shuffle"], "No such option: --shuffle"),
    "an option without value": (["--seed"], "'--seed' requires an argument"),
}


@pytest.mark.parametrize(("words", "message"), OPTIONS.values(), ids=OPTIONS)
def test_options_that_make_no_sense_are_one_line(
    refusalscope: Caller, given: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    shutil.copy(given / "harmful.txt", tmp_path)
    shutil.copy(given / "harmless.txt", tmp_path)
    called = refusalscope("run", given / "tiny", "--out", "out", *words)
    assert message in called.line
    assert not (tmp_path / "out").exists()


NEEDS_MODEL: dict[str, tuple[list[str], str]] = {
    "several tokens": (["--refusal-token", "I am"], "'I am' is 4 tokens in this tokenizer"),
    "no token": (["--refusal-token", ""], "'--refusal-token': it is blank"),
    "another device": (["--device", "cuda:77"], "--device is 'cuda:77'; this machine has cpu"),
    "the paper's template": (["--template", "paper"], "none of them"),
}


@pytest.mark.parametrize(("words", "message"), NEEDS_MODEL.values(), ids=NEEDS_MODEL)
def test_options_that_the_model_does_not_take_are_one_line(
    refusalscope: Caller, run_words: Words, tmp_path: Path, words: list[str], message: str
) -> None:
    called = refusalscope(*run_words, "--out", "out", *words)
    assert message in called.line
    assert not (tmp_path / "out").exists()


def test_an_unknown_command_is_one_line(refusalscope: Caller) -> None:
    assert "No such command 'extracts'" in refusalscope("extracts").line


def test_no_command_shows_the_help_with_status_2(refusalscope: Caller) -> None:
    called = refusalscope()
    assert called.status == 2
    assert "import-run" in called.out + called.err
    assert "refusalscope: " not in called.err


EMPTIED = {
    "answers": "the model refuses 0 of 6 harmful training and 0 of 3 harmful validation "
    "instructions; a direction needs at least 6 and 2, so none was looked for",
    "metric": "none of 6 prompts was kept by the filter, so there is no mean",
}


@pytest.mark.parametrize("label", EMPTIED)
def test_a_filter_that_empties_a_set_is_one_line_of_a_strict_run(
    refusalscope: Caller, run_words: Words, label: str
) -> None:
    words = [word for word in run_words if word != "--no-filter"]
    called = refusalscope(*words, "--out", "out", "--strict", "--label", label)
    assert EMPTIED[label] in called.line
    answers = {"directions/answers.jsonl"} if label == "answers" else set()
    assert set(contents(Path("out"))) == {"run.json", "timings.json", *answers}


def test_limits_that_no_candidate_passes_are_one_line_of_a_strict_run(
    refusalscope: Caller, run_words: Words
) -> None:
    called = refusalscope(*run_words, "--min-induce", "99", "--out", "out", "--strict")
    assert "none of 4 candidates passed" in called.line
    assert set(contents(Path("out"))) == {
        "run.json",
        "timings.json",
        "directions/extraction.json",
        "directions/mean_differences.safetensors",
        "selection/prompt_scores.jsonl",
    }


ANOTHER: dict[str, tuple[list[str], str]] = {
    "another seed": (["--seed", "5"], "option seed was 0, now 5"),
    "another label": (["--label", "metric"], "option label was 'auto', now 'metric'"),
    "another size": (["--n-test", "2"], "option n_test was 3, now 2"),
    "another precision": (["--dtype", "bfloat16"], "option dtype was 'auto', now 'bfloat16'"),
}


@pytest.mark.parametrize(("words", "message"), ANOTHER.values(), ids=ANOTHER)
def test_a_folder_of_a_run_with_other_options_is_left_as_it_is(
    refusalscope: Caller, run_words: Words, finished: Path, words: list[str], message: str
) -> None:
    before = contents(finished)
    called = refusalscope(*run_words, "--out", finished, *words)
    assert message in called.line
    assert contents(finished) == before


def test_a_folder_of_a_run_on_another_model_is_left_as_it_is(
    refusalscope: Caller, run_words: Words, given: Path, finished: Path, tmp_path: Path
) -> None:
    out, model = tmp_path / "out", tmp_path / "tiny"
    shutil.copytree(finished, out)
    shutil.copytree(given / "tiny", model)
    manifest = json.loads((out / "run.json").read_text())
    manifest["options"]["model"] = str(model)
    (out / "run.json").write_text(json.dumps(manifest))
    before = contents(out)
    change_weights(model, lambda tensors: tensors["lm_head.weight"].mul_(1.5))
    called = refusalscope("run", model, *run_words[2:], "--out", out)
    assert "holds another run (model weights was " in called.line
    assert contents(out) == before


def test_a_folder_of_a_run_on_other_instructions_is_left_as_it_is(
    refusalscope: Caller, run_words: Words, finished: Path, given: Path
) -> None:
    before = contents(finished)
    file = given / "harmful.txt"
    text = file.read_text()
    try:
        file.write_text(text.replace("lock", "hinge"))
        called = refusalscope(*run_words, "--out", finished)
    finally:
        file.write_text(text)
    assert "holds another run (instructions harmful_train was " in called.line
    assert contents(finished) == before


def test_a_folder_that_is_no_run_is_left_as_it_is(
    refusalscope: Caller, run_words: Words, tmp_path: Path
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("mine")
    called = refusalscope(*run_words, "--out", "thesis")
    assert "is not empty and not a run" in called.line
    called = refusalscope(*run_words, "--out", "thesis/chapter.tex")
    assert "is a file" in called.line
    assert contents(tmp_path) == {"thesis/chapter.tex": b"mine"}


def test_a_folder_below_a_file_is_one_line(
    refusalscope: Caller, run_words: Words, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    assert "cannot be written" in refusalscope(*run_words, "--out", "file/out").line
    assert contents(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize("stage", ["extract", "select", "complete", "judge", "loss", "report"])
def test_a_stage_of_what_is_no_run_is_one_line(
    refusalscope: Caller, tmp_path: Path, stage: str
) -> None:
    assert "is not a run folder" in refusalscope(stage, tmp_path).line
    assert "is not a run folder" in refusalscope(stage, tmp_path / "nowhere").line
    assert contents(tmp_path) == {}


def test_a_damaged_result_is_one_line_and_names_its_file(
    refusalscope: Caller, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    (out / "selection" / "scores.json").write_text('{"schema": 1')
    before = results(out)
    called = refusalscope("report", out)
    assert "selection/scores.json is not a Selection record" in called.line
    assert results(out) == before


def test_anatomy_of_what_is_no_model_is_one_line(refusalscope: Caller) -> None:
    assert "there is no model at '/nowhere'" in refusalscope("anatomy", "/nowhere").line


def test_an_import_of_what_is_no_run_is_one_line(refusalscope: Caller, tmp_path: Path) -> None:
    called = refusalscope("import-run", tmp_path, "--out", tmp_path / "out")
    assert str(tmp_path) in called.line
    assert contents(tmp_path) == {}


def test_a_lexicon_too_small_for_its_splits_is_one_line(
    refusalscope: Caller, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    called = refusalscope("organism", "train", "--objects-per-kind", "5", "--out", out)
    assert "leave a role without objects" in called.line
    assert contents(tmp_path) == {}


def test_sentences_that_make_no_language_are_one_line(refusalscope: Caller, tmp_path: Path) -> None:
    printed = json.loads(refusalscope("organism", "sentences").out)
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(printed | {"harmful_kinds": []}), "utf-8")
    out = tmp_path / "out"
    called = refusalscope("organism", "train", "--sentences", file, "--out", out)
    assert "harmful_kinds is empty" in called.line
    assert not out.exists()


def test_organisms_in_a_folder_that_does_not_exist_are_one_line(refusalscope: Caller) -> None:
    assert "is not a folder" in refusalscope("organism", "list", "/nowhere").line
