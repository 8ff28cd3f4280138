import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub.constants import HF_HUB_OFFLINE
from safetensors.torch import load_file, save_file
from tiny_models import save_tiny

from refusalscope.errors import ModelLoadError, NumericalError
from refusalscope.models.chat_model import load_chat_model, load_model
from refusalscope.models.digests import settings_digest
from refusalscope.models.load_options import LoadOptions

Tensors = dict[str, torch.Tensor]
WEIGHT = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "tiny"))


def change(folder: Path, edit: Callable[[Tensors], object]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def test_a_chat_model_says_what_it_is(saved: Path) -> None:
    chat = load_chat_model(f"{saved}/")
    assert chat.name == "tiny"
    assert (chat.n_layers, chat.d_model) == (2, 32)
    assert chat.positions == (-2, -1)
    assert chat.device == torch.device("cpu")
    assert chat.layers == tuple(chat.model.model.layers)
    assert chat.pad_id == 0
    assert not chat.model.training
    assert not any(parameter.requires_grad for parameter in chat.model.parameters())
    prompts = chat.encode(["one", "two"])
    assert [len(prompt.ids) for prompt in prompts] == [7, 7]


def test_weights_are_those_of_the_file(saved: Path) -> None:
    weights = load_model(str(saved)).state_dict()
    stored = load_file(saved / "model.safetensors")
    assert stored.keys() <= weights.keys()
    assert all(weights[name].equal(value) for name, value in stored.items())


def test_a_bfloat16_checkpoint_is_float32_on_a_cpu_unless_asked_otherwise(folder: Path) -> None:
    change(folder, lambda ts: ts.update({n: t.to(torch.bfloat16) for n, t in ts.items()}))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    stored = load_file(folder / "model.safetensors")[WEIGHT]
    assert stored.dtype == torch.bfloat16
    model = load_model(str(folder), LoadOptions(device="cpu"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.state_dict()[WEIGHT].equal(stored.float())
    model = load_model(str(folder), LoadOptions(device="cpu", dtype="bfloat16"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_the_digest_of_the_weights_changes_with_one_weight(saved: Path, folder: Path) -> None:
    digest = load_chat_model(str(saved)).weights_sha256
    assert load_chat_model(str(folder)).weights_sha256 == digest
    change(folder, lambda tensors: tensors[WEIGHT][0, 0].add_(1e-3))
    assert load_chat_model(str(folder)).weights_sha256 != digest


def test_the_digest_of_the_settings_changes_with_config_and_tokenizer_only(folder: Path) -> None:
    digest = settings_digest(folder)
    change(folder, lambda tensors: tensors[WEIGHT][0, 0].add_(1e-3))
    (folder / "README.md").write_text("a note")
    assert settings_digest(folder) == digest
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).write_text((folder / name).read_text() + "\n")
        digest, before = settings_digest(folder), digest
        assert digest != before
    (folder / "chat_template.jinja").write_text("another")
    assert settings_digest(folder) != digest


@pytest.mark.parametrize("source", ["/nowhere/at/all", "nowhere", "a/b/c", "C:\\model"])
def test_what_is_neither_folder_nor_hub_id_is_refused(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelLoadError, match="there is no model at"):
        load_model(source)


def test_a_hub_model_without_network_says_so() -> None:
    assert HF_HUB_OFFLINE, "tests must not reach the network"
    with pytest.raises(ModelLoadError, match="neither a folder here nor to be had from the hub"):
        load_model("nobody/no-such-model")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_no_number_is_named(folder: Path, value: float) -> None:
    change(folder, lambda tensors: tensors[WEIGHT][3, 3].fill_(value))
    with pytest.raises(NumericalError, match=WEIGHT):
        load_model(str(folder))


def test_missing_weights_are_not_made_up(folder: Path) -> None:
    change(folder, lambda tensors: (tensors.pop(WEIGHT), tensors.pop("model.norm.weight")))
    with pytest.raises(
        ModelLoadError, match=f"lacks 2 weights of its architecture .first: {WEIGHT}"
    ):
        load_model(str(folder))


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    change(folder, lambda ts: ts.update({WEIGHT: torch.zeros(32, 40)}))
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        load_model(str(folder))


@pytest.mark.parametrize("left", [0, 4, 200, -1])
def test_a_file_cut_anywhere_is_refused(folder: Path, left: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ModelLoadError, match="is not a whole safetensors file"):
        load_model(str(folder))


def test_a_missing_shard_is_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    (folder / "model.safetensors").unlink()
    shards = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    for shard, own in shards.items():
        save_file({n: tensors[n] for n in own}, folder / shard, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {n: s for s, own in shards.items() for n in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    load_model(str(folder))
    (folder / "b.safetensors").unlink()
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        load_model(str(folder))


def test_pickled_weights_are_not_loaded(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelLoadError, match="pickled weights are not loaded"):
        load_model(str(folder))


def test_code_that_comes_with_a_model_does_not_run_unless_asked_for(
    folder: Path, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Own: pass\n")
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match="--trust-remote-code"):
        load_model(str(folder))
    assert not ran.exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '"llama"', '{"model_type": "llama", "hidden_size": "wide"}', "\x00"]
)
def test_a_config_that_makes_no_sense_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        load_model(str(folder))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": "1.0"}'])
def test_a_tokenizer_that_makes_no_sense_is_refused(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(ModelLoadError, match=r"the tokenizer of .* cannot be read"):
        load_chat_model(str(folder))
