"""Where transformers stores a parameter is recognised by its numbers."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from tiny_runs import names

from refusalscope.errors import AnatomyError
from refusalscope.models.miniature import build_miniature, miniature_config
from refusalscope.weights.stored_names import StoredPart, stored_parts


def test_a_fused_tensor_is_found_in_one_piece_an_expert() -> None:
    model = build_miniature(miniature_config("mixtral"))
    wanted = ("model.layers.1.mlp.experts.down_proj", 1)
    assert stored_parts(model, [wanted])[wanted] == tuple(
        StoredPart(name=f"model.layers.1.block_sparse_moe.experts.{i}.w2.weight", axis=0)
        for i in range(4)
    )


def test_a_renamed_tensor_is_found() -> None:
    model = build_miniature(miniature_config("gemma3"))
    name = "layers.0.self_attn.o_proj.weight"
    wanted = (f"model.language_model.{name}", 0)
    assert stored_parts(model, [wanted])[wanted] == (
        StoredPart(name=f"language_model.model.{name}", axis=0),
    )


_KILLED = """
import time
from refusalscope.models.miniature import build_miniature, miniature_config
from refusalscope.weights.stored_names import stored_parts
model = build_miniature(miniature_config("llama"))
save = model.save_pretrained
def saved(folder):
    save(folder)
    print(folder, flush=True)
    time.sleep(600)
model.save_pretrained = saved
stored_parts(model, [])
"""


@pytest.mark.slow
def test_what_a_killed_command_has_saved_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = subprocess.Popen(
        [sys.executable, "-c", _KILLED],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert killed.stdout is not None
    with killed.stdout:
        folder = Path(killed.stdout.readline().strip())
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    assert (folder / "model.safetensors").is_file()
    assert folder.parent == tmp_path
    stored_parts(build_miniature(miniature_config("llama")), [])
    assert names(tmp_path) == []


def test_tensors_with_the_same_numbers_are_refused() -> None:
    model = build_miniature(miniature_config("llama"))
    with torch.no_grad():
        first, second = (
            model.get_parameter(f"model.layers.{i}.mlp.down_proj.weight") for i in range(2)
        )
        first.copy_(second)
    with pytest.raises(AnatomyError, match="hold the same numbers"):
        stored_parts(model, [("model.layers.0.mlp.down_proj.weight", 0)])
