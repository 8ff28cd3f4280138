"""The proof holds for a whole anatomy and fails for one with a hole in it."""

from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from refusalscope.errors import AnatomyError
from refusalscope.models.anatomy import Anatomy, measure_anatomy
from refusalscope.models.miniature import build_miniature, miniature_config
from refusalscope.weights import orthogonalize
from refusalscope.weights.proof import leftover, prove
from refusalscope.weights.tensor_edit import TensorEdit


def miniature(model_type: str) -> PreTrainedModel:
    return build_miniature(miniature_config(model_type))


def is_tied(model: PreTrainedModel) -> bool:
    head, embedding = model.get_submodule("lm_head"), model.get_submodule("transformer.wte")
    return head.weight is embedding.weight


def test_everything_is_proven_and_the_direction_was_there_before() -> None:
    model = miniature("gemma2")
    proof = prove(model, measure_anatomy(model))
    assert proof.is_proven
    assert proof.coverage == 1.0
    assert (proof.n_writers, proof.n_tensors) == (9, 9)
    assert len(proof.leftover_by_layer) == 5
    assert proof.leftover == max(proof.leftover_by_layer) < 1e-6
    assert proof.leftover_before > 0.1


def without_writer(anatomy: Anatomy, index: int) -> Anatomy:
    kept = [w for i, w in enumerate(anatomy.all_writers) if i != index]
    return replace(
        anatomy,
        embedding=tuple(w for w in kept if w.layer is None),
        writers=tuple(w for w in kept if w.layer is not None),
    )


@pytest.mark.parametrize("index", range(6))
def test_leaving_out_one_writer_makes_the_proof_fail(index: int) -> None:
    model = miniature("gpt2")
    anatomy = measure_anatomy(model)
    proof = prove(model, without_writer(anatomy, index))
    assert not proof.is_proven
    assert proof.leftover > 1e3 * proof.tolerance


def test_leaving_out_one_bias_makes_the_proof_fail() -> None:
    model = miniature("gpt2")
    anatomy = measure_anatomy(model)
    first = anatomy.writers[0]
    holed = replace(first, feeders=first.feeders[:1])
    proof = prove(model, replace(anatomy, writers=(holed, *anatomy.writers[1:])))
    assert not proof.is_proven
    assert proof.n_writers_proven == proof.n_writers - 1


@pytest.mark.parametrize("model_type", ["gemma2", "bloom"])
def test_forgetting_a_norm_makes_the_proof_fail(model_type: str) -> None:
    model = miniature(model_type)
    anatomy = measure_anatomy(model)

    def blind(writer):
        return replace(writer, feeders=tuple(replace(f, norms=()) for f in writer.feeders))

    forgetful = replace(
        anatomy,
        embedding=tuple(blind(w) for w in anatomy.embedding),
        writers=tuple(blind(w) for w in anatomy.writers),
    )
    assert not prove(model, forgetful).is_proven


def test_the_model_is_left_as_it_was() -> None:
    model = miniature("gpt2")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prove(model, measure_anatomy(model))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert is_tied(model)


def test_an_anatomy_without_feeders_cannot_be_proven() -> None:
    model = miniature("llama")
    with pytest.raises(AnatomyError, match="with feeders"):
        prove(model, measure_anatomy(model, with_feeders=False))


def test_leftover_is_the_largest_cosine() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]])
    assert leftover(rows, torch.tensor([5.0, 0.0])) == pytest.approx(0.6)


def test_a_tensor_that_was_not_edited_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    model = miniature("mixtral")
    edit = orthogonalize.edited_tensor

    def skips_one(weight: torch.Tensor, wanted: TensorEdit) -> torch.Tensor:
        if wanted.parameter == "model.layers.3.mlp.experts.down_proj":
            return weight.clone()
        return edit(weight, wanted)

    monkeypatch.setattr(orthogonalize, "edited_tensor", skips_one)
    proof = prove(model, measure_anatomy(model))
    assert (proof.n_tensors_proven, proof.n_tensors) == (8, 9)
    assert proof.coverage == pytest.approx(8 / 9)
    assert not proof.is_proven
