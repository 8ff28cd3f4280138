"""Miniatures are small, random, reproducible, and named like the model they stand for."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, MixtralConfig

from refusalscope.errors import ModelLoadError
from refusalscope.models.miniature import build_miniature, miniature_config, shrunken_config


def test_the_same_seed_gives_the_same_weights_and_leaves_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    one, same, other = (build_miniature(miniature_config("gemma2"), seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [model.get_parameter("model.norm.weight") for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_no_parameter_starts_as_one_number_everywhere() -> None:
    model = build_miniature(miniature_config("gpt_oss"))
    assert [n for n, p in model.named_parameters() if len(p.unique()) == 1] == []


@pytest.mark.parametrize(
    "config",
    [
        Gemma2Config(num_hidden_layers=7, hidden_size=96),
        MixtralConfig(num_hidden_layers=3, num_local_experts=6, hidden_size=96),
    ],
)
def test_a_shrunken_config_keeps_every_name(config: Gemma2Config | MixtralConfig) -> None:
    with torch.device("meta"):
        full = AutoModelForCausalLM.from_config(config)
    small = build_miniature(shrunken_config(config))
    assert [n for n, _ in small.named_parameters()] == [n for n, _ in full.named_parameters()]
    assert sum(p.numel() for p in small.parameters()) < 2e6
    assert config.hidden_size == 96


def test_what_cannot_be_built_is_refused_with_the_reason() -> None:
    with pytest.raises(ModelLoadError, match="no miniature of blt: byte-latent"):
        miniature_config("blt")
    with pytest.raises(ModelLoadError, match="nonsense is not a model type of transformers"):
        miniature_config("nonsense")
