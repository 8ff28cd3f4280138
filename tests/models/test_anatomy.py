"""The anatomy of models whose writers are known, and of models that must be refused."""

from collections.abc import Callable
from hashlib import sha256

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from refusalscope.errors import AnatomyError
from refusalscope.models.anatomy import Anatomy, measure_anatomy
from refusalscope.models.miniature import build_miniature, miniature_config
from refusalscope.models.residual_writer import Feeder, PassedNorm


def miniature(model_type: str) -> PreTrainedModel:
    return build_miniature(miniature_config(model_type))


def writers(anatomy: Anatomy, layer: int | None) -> list[tuple[str, str, float]]:
    return [(w.site, w.module, w.coefficient) for w in anatomy.writers_of(layer)]


def feeders(anatomy: Anatomy, layer: int | None) -> list[tuple[str, int]]:
    return [(f.parameter, f.axis) for w in anatomy.writers_of(layer) for f in w.feeders]


def weights_hash(model: nn.Module) -> str:
    digest = sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def n_hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_llama_has_an_embedding_attention_and_an_mlp_per_layer() -> None:
    anatomy = measure_anatomy(miniature("llama"))
    assert anatomy.layers == tuple(f"model.layers.{i}" for i in range(4))
    assert anatomy.d_model == 64
    assert anatomy.carries == (1.0, 1.0, 1.0, 1.0)
    assert (anatomy.final_norm, anatomy.unembedding) == ("model.norm", "lm_head")
    assert not anatomy.is_tied
    assert writers(anatomy, None) == [("embedding", "model.embed_tokens", 1.0)]
    assert writers(anatomy, 2) == [
        ("attn_out", "model.layers.2.self_attn", 1.0),
        ("mlp_out", "model.layers.2.mlp", 1.0),
    ]
    assert feeders(anatomy, None) == [("model.embed_tokens.weight", 1)]
    assert feeders(anatomy, 2) == [
        ("model.layers.2.self_attn.o_proj.weight", 0),
        ("model.layers.2.mlp.down_proj.weight", 0),
    ]


def test_gpt2_has_learned_positions_transposed_matrices_and_biases() -> None:
    anatomy = measure_anatomy(miniature("gpt2"))
    assert anatomy.is_tied
    assert [name for _, name, _ in writers(anatomy, None)] == ["transformer.wte", "transformer.wpe"]
    assert feeders(anatomy, None) == [("transformer.wte.weight", 1), ("transformer.wpe.weight", 1)]
    assert feeders(anatomy, 0) == [
        ("transformer.h.0.attn.c_proj.weight", 1),
        ("transformer.h.0.attn.c_proj.bias", 0),
        ("transformer.h.0.mlp.c_proj.weight", 1),
        ("transformer.h.0.mlp.c_proj.bias", 0),
    ]


def test_gemma2_writes_through_norms_that_multiply_with_one_plus_gain() -> None:
    anatomy = measure_anatomy(miniature("gemma2"))
    norm = "model.layers.1.post_attention_layernorm"
    assert writers(anatomy, 1)[0] == ("attn_out", norm, 1.0)
    assert anatomy.writers_of(1)[0].feeders == (
        Feeder(
            parameter="model.layers.1.self_attn.o_proj.weight",
            axis=0,
            norms=(PassedNorm(module=norm, gain=f"{norm}.weight", offset=1.0, is_centered=False),),
        ),
    )


def test_olmo2_writes_through_norms_with_a_plain_gain() -> None:
    feeder = measure_anatomy(miniature("olmo2")).writers_of(0)[1].feeders[0]
    assert feeder.parameter == "model.layers.0.mlp.down_proj.weight"
    assert [(norm.offset, norm.is_centered) for norm in feeder.norms] == [(0.0, False)]


def test_bloom_adds_inside_modules_and_embeds_through_a_centred_norm_with_a_bias() -> None:
    anatomy = measure_anatomy(miniature("bloom"))
    norm = "transformer.word_embeddings_layernorm"
    assert writers(anatomy, None) == [("embedding", norm, 1.0)]
    weight, bias = anatomy.embedding[0].feeders
    assert weight.parameter == "transformer.word_embeddings.weight"
    assert weight.norms[0].is_centered
    assert (bias.parameter, bias.norms) == (f"{norm}.bias", ())
    assert [name for _, name, _ in writers(anatomy, 3)] == [
        "transformer.h.3.self_attention.dense",
        "transformer.h.3.mlp.dense_4h_to_h",
    ]


@pytest.mark.parametrize(
    ("model_type", "tensor", "axis"),
    [
        ("mixtral", "model.layers.1.mlp.experts.down_proj", 1),
        ("gpt_oss", "model.layers.1.mlp.experts.down_proj", 2),
        ("gpt_oss", "model.layers.1.mlp.experts.down_proj_bias", 1),
        ("qwen2_moe", "model.layers.1.mlp.shared_expert.down_proj.weight", 0),
        ("qwen2_moe", "model.layers.1.mlp.experts.down_proj", 1),
    ],
)
def test_fused_and_shared_experts_are_found_whole(model_type: str, tensor: str, axis: int) -> None:
    assert (tensor, axis) in feeders(measure_anatomy(miniature(model_type)), 1)


def test_gemma4_experts_pass_two_norms_on_their_way_to_the_stream() -> None:
    anatomy = measure_anatomy(miniature("gemma4_text"))
    experts = [f for f in anatomy.feeders if f.parameter == "model.layers.0.experts.down_proj"]
    assert [norm.module.rpartition(".")[2] for norm in experts[0].norms] == [
        "post_feedforward_layernorm",
        "post_feedforward_layernorm_2",
    ]
    assert len(anatomy.writers_of(0)) == 3, "attention, feed-forward, per-layer input"


def test_residual_multipliers_are_kept() -> None:
    anatomy = measure_anatomy(miniature("granite"), with_feeders=False)
    assert [coefficient for _, _, coefficient in writers(anatomy, None)] == [12.0]
    assert [coefficient for _, _, coefficient in writers(anatomy, 0)] == [0.22, 0.22]


def test_attention_beside_a_state_space_mixer_are_two_writers() -> None:
    anatomy = measure_anatomy(miniature("falcon_h1"), with_feeders=False)
    assert [(site, c) for site, _, c in writers(anatomy, 0)] == [
        ("mixer_out", 0.25),
        ("attn_out", 0.5),
        ("mlp_out", 1.0),
    ]


def test_layers_of_one_model_may_differ_in_kind() -> None:
    anatomy = measure_anatomy(miniature("recurrent_gemma"), with_feeders=False)
    assert [writers(anatomy, i)[0][0] for i in range(4)] == [
        "mixer_out",
        "mixer_out",
        "attn_out",
        "mixer_out",
    ]


def test_beam_scales_the_stream_that_it_carries_over() -> None:
    anatomy = measure_anatomy(miniature("beam"), with_feeders=False)
    assert anatomy.carries[0] == pytest.approx(3**-0.5, rel=1e-5)


def test_without_feeders_the_writers_are_the_same() -> None:
    model = miniature("olmo2")
    full, quick = measure_anatomy(model), measure_anatomy(model, with_feeders=False)
    assert [w.module for w in quick.all_writers] == [w.module for w in full.all_writers]
    assert quick.feeders == ()


@pytest.mark.parametrize("with_feeders", [True, False])
def test_the_model_is_left_as_it_was(with_feeders: bool) -> None:
    model = miniature("mixtral")
    model.train()
    model.get_submodule("model.layers.0").eval()
    model.get_parameter("lm_head.weight").requires_grad_(True)
    before = weights_hash(model)
    modes = [module.training for module in model.modules()]
    state = torch.random.get_rng_state()
    measure_anatomy(model, with_feeders=with_feeders)
    assert weights_hash(model) == before
    assert n_hooks(model) == 0
    assert [module.training for module in model.modules()] == modes
    assert [n for n, p in model.named_parameters() if p.requires_grad] == ["lm_head.weight"]
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_hooks_are_gone_after_a_refusal() -> None:
    model = miniature("doge")
    with pytest.raises(AnatomyError):
        measure_anatomy(model)
    assert n_hooks(model) == 0


def test_the_same_seed_gives_the_same_anatomy() -> None:
    model = miniature("gemma2")
    assert measure_anatomy(model, seed=3) == measure_anatomy(model, seed=3)
    assert measure_anatomy(model, seed=3) == measure_anatomy(model, seed=4)


@pytest.mark.parametrize(
    ("model_type", "message"),
    [
        ("doge", r"doge: layer 0 \(model.layers.0\).*misfit.*channel by channel"),
        ("bert", r"bert: layer 0 \(bert.encoder.layer.0\) does not add.*norm comes after"),
        ("deepseek_v4", r"stream of shape \(2, 6, 4, 64\), not three axes.*several residual"),
        ("reformer", r"hands on a second stream.*reversible"),
        ("hrm_text", r"runs 6 times in one forward pass"),
        ("longcat_flash", r"model.layers.0.mlp: the tensors .*unexplained.*zero experts"),
        ("gpt_neox_japanese", r"layer 3 .*last layer adds a bias"),
    ],
)
def test_what_does_not_add_up_is_refused_by_name(model_type: str, message: str) -> None:
    with pytest.raises(AnatomyError, match=message):
        measure_anatomy(miniature(model_type))


def test_fixed_positions_stop_weight_edits_but_not_interventions() -> None:
    model = miniature("xglm")
    assert len(measure_anatomy(model, with_feeders=False).embedding) == 2
    with pytest.raises(AnatomyError, match=r"embed_positions.*sinusoidal"):
        measure_anatomy(model)


class ListedExperts(nn.Module):
    """Routes each token to one expert of a list, as architectures outside transformers do."""

    def __init__(self, n_experts: int) -> None:
        super().__init__()
        self.router = nn.Linear(64, n_experts, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 64)) for _ in range(n_experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, 1)
        gate, choice = self.router(rows).softmax(-1).max(-1)
        out = torch.zeros_like(rows)
        for index, expert in enumerate(self.experts):
            chosen = (choice == index).nonzero()[:, 0]
            if len(chosen) > 0:
                out = out.index_add(0, chosen, gate[chosen, None] * expert(rows[chosen]))
        return out.view_as(x)


class IdleProjection(nn.Module):
    """An MLP with a projection that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(64, 32), nn.Linear(32, 64)
        self.idle = nn.Linear(48, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).relu())


class CurvedOutput(nn.Module):
    """An MLP whose last step is no linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(x) + self.down(x).tanh()


def llama_with(mlp: Callable[[], nn.Module]) -> PreTrainedModel:
    model = miniature("llama")
    torch.manual_seed(0)
    for index in range(4):
        model.set_submodule(f"model.layers.{index}.mlp", mlp())
    return model


def test_experts_that_no_token_chose_are_found_beside_those_that_ran() -> None:
    model = llama_with(lambda: ListedExperts(24))
    found = feeders(measure_anatomy(model), 0)
    for index in range(24):
        assert (f"model.layers.0.mlp.experts.{index}.2.weight", 0) in found
        assert (f"model.layers.0.mlp.experts.{index}.2.bias", 0) in found
    assert len(found) == 1 + 2 * 24


def test_a_tensor_that_never_ran_and_has_no_like_is_an_error() -> None:
    with pytest.raises(AnatomyError, match=r"mlp.idle.weight took no part"):
        measure_anatomy(llama_with(IdleProjection))


def test_a_writer_that_is_not_linear_in_its_last_tensors_is_an_error() -> None:
    with pytest.raises(AnatomyError, match=r"model.layers.0.mlp: .*unexplained"):
        measure_anatomy(llama_with(CurvedOutput))


def test_a_module_that_writes_only_one_of_the_times_it_runs_is_an_error() -> None:
    model = miniature("llama")
    mlp = model.get_submodule("model.layers.0.mlp")
    norm = model.get_submodule("model.layers.0.input_layernorm")

    def runs_the_mlp_too(*_call: object) -> None:
        mlp(torch.ones(1, 1, 64))

    handle = norm.register_forward_hook(runs_the_mlp_too)
    with pytest.raises(AnatomyError, match=r"runs 2 times .* writes .* 1 times"):
        measure_anatomy(model)
    handle.remove()


def test_double_precision_finds_the_same_writers() -> None:
    model = miniature("gemma2")
    single = measure_anatomy(model)
    assert measure_anatomy(model.double()) == single
