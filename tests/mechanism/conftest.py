"""Two tiny chat models that every test leaves as they are, and the bundled organism."""

from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from mechanism_organism import Organism
from tiny_models import tiny_chat
from torch import Tensor

from refusalscope.directions.direction import load_direction
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.pipeline.context import Silent
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import load, run

WORDS = ["open the door", "paint it", "why is the sky so blue today?", "go", "count to seven now."]


@pytest.fixture(scope="session")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    """Llama: four heads on two keys, no bias."""
    return tiny_chat(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="session")
def biased(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    """Llama with a bias on every projection of attention."""
    return tiny_chat(tmp_path_factory.mktemp("tiny") / "biased", attention_bias=True)


@pytest.fixture
def prompts(chat: ChatModel) -> list[Prompt]:
    return chat.encode(WORDS)


@pytest.fixture
def direction(chat: ChatModel) -> Float[Tensor, " d_model"]:
    return torch.randn(chat.d_model, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="session")
def organism(tmp_path_factory: pytest.TempPathFactory) -> Organism:
    out = tmp_path_factory.mktemp("organism") / "run"
    options = RunOptions()
    run(options, out, until="select")
    return Organism(
        run=load(options, out, progress=Silent()), vector=load_direction(Path(out)).vector
    )
