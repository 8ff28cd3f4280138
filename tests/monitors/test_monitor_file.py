"""A monitor's file: what is written is read back, and what is none is one line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_models import tiny_chat
from tiny_monitors import monitor
from torch import Tensor

from refusalscope.data.instruction import Instruction
from refusalscope.errors import InputError
from refusalscope.models.chat_model import ChatModel
from refusalscope.monitors.monitor import load_monitor, save_monitor
from refusalscope.monitors.score import require_same_shape, score_prompts

WORDS = ["open the door", "go", "paint it red, please"]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"site": "attn"},
        {"site": "mlp", "layer": 0},
        {"pool": "template"},
        {"pool": "direction", "token": -2},
        {"pool": "sliding", "window": 3},
    ],
)
def test_a_file_read_back_gives_the_same_scores(
    chat: ChatModel, tmp_path: Path, where: dict[str, Any]
) -> None:
    made = monitor(**where)
    save_monitor(made, tmp_path / "m.safetensors")
    again = load_monitor(tmp_path / "m.safetensors")
    assert again.facts == made.facts
    prompts = chat.encode(WORDS)
    scores = score_prompts(chat, prompts, again)
    torch.testing.assert_close(scores, score_prompts(chat, prompts, made))
    alone = torch.cat([score_prompts(chat, [prompt], made, batch_size=1) for prompt in prompts])
    torch.testing.assert_close(scores, alone, rtol=1e-4, atol=1e-4)
    assert len(set(scores.tolist())) == 3


def test_it_knows_what_it_was_fitted_on_and_says_probabilities() -> None:
    made = monitor()
    texts = [Instruction(text) for text in (" open the door ", "open the gate")]
    assert made.n_seen(texts) == 1
    probability = made.probability(torch.tensor([0.5, 100.0]).double())
    assert probability is not None
    assert probability.tolist() == [0.5, 1.0]
    assert monitor(platt=None).probability(torch.zeros(1).double()) is None


def test_a_monitor_of_another_model_is_one_line(chat: ChatModel) -> None:
    for changes, words in (
        ({"d_model": 64}, "the monitor is of tiny, 64 wide with 2 layers; llama is 32 wide"),
        ({"n_layers": 9}, "with 9 layers"),
        ({"pool": "direction", "token": -7}, "token -7 from the end"),
    ):
        with pytest.raises(InputError, match=words):
            require_same_shape(chat, monitor(**changes))


def changed(path: Path, change: dict[str, Tensor | None]) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = {**load_file(path), **change}
    save_file({name: t for name, t in tensors.items() if t is not None}, path, metadata)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight": torch.zeros(31).double()}, "'weight' is torch.float64 of shape"),
        ({"mean": torch.zeros(32)}, "'mean' is torch.float32"),
        ({"bias": None}, "'bias' is absent"),
        ({"weight": torch.full((32,), torch.nan).double()}, "'weight' holds numbers that are NaN"),
        ({"scale": torch.zeros(32).double()}, "'scale' holds numbers"),
        ({"seen": None}, "does not say what it was fitted on"),
    ],
)
def test_a_file_that_was_changed_is_one_line(
    tmp_path: Path, change: dict[str, Tensor | None], words: str
) -> None:
    path = tmp_path / "m.safetensors"
    save_monitor(monitor(), path)
    changed(path, change)
    with pytest.raises(InputError, match=words) as raised:
        load_monitor(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("changes", [{"layer": 2}, {"window": 3}, {"pool": "sliding"}])
def test_what_a_file_says_must_hold_together(tmp_path: Path, changes: dict[str, Any]) -> None:
    save_monitor(monitor(**changes), tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="it was changed by hand"):
        load_monitor(tmp_path / "m.safetensors")


def test_other_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(InputError, match="does not exist"):
        load_monitor(path)
    path.write_bytes(b"junk" * 9)
    with pytest.raises(InputError, match="is not a whole safetensors file"):
        load_monitor(path)
    save_file({"direction": torch.ones(32)}, path)
    with pytest.raises(InputError, match="is no monitor's file"):
        load_monitor(path)
    save_file({"weight": torch.ones(32)}, path, {"refusalscope_monitor": '{"kind": "other"}'})
    with pytest.raises(InputError, match="is not a MonitorFacts record"):
        load_monitor(path)
