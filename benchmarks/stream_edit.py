"""The streamed edit of a checkpoint beside copying its files, and beside load-edit-save.

A synthetic sharded checkpoint in bfloat16 with the tensor shapes of Llama-3 8B (fewer layers) is
written to a temporary folder. Each job runs in a process of its own. Copy and edit take turns at
being first, because a disk that has just been written to is slower, and what the job before wrote
is removed right before each, because a virtual machine's memory is slower where it lay idle:

- nothing: imports what the edit imports; its peak memory is the interpreter's own
- copy: the files, flushed to the disk, as the edit flushes its own
- edit: `orthogonalize_checkpoint`
- transformers: `from_pretrained`, each matrix edited in float32, `save_pretrained`

    python benchmarks/stream_edit.py [--layers 6] [--repeats 4] [--folder DIR] [--json]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from refusalscope.directions.direction import Direction, load_direction, save_direction
from refusalscope.weights.checkpoint import open_checkpoint
from refusalscope.weights.checkpoint_plan import ModelFolder
from refusalscope.weights.stream import orthogonalize_checkpoint

D_MODEL, D_MLP, D_VOCAB, D_KEYS = 4096, 14336, 128256, 1024
_POOL = 1 << 26
_SHARD = 1 << 30
_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": D_MODEL,
    "intermediate_size": D_MLP,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": D_VOCAB,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 128000,
    "eos_token_id": 128001,
}


def main() -> int:
    """Write the checkpoint, run the jobs, compare, print; 2 where there is no room."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=None, help="where the temporary folder is")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(run_job(arguments.job, arguments.folder)))
        return 0
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="stream-edit-") as folder:
        lack = lacking(Path(folder), arguments.layers)
        if lack:
            print(lack, file=sys.stderr)
            return 2
        result = compare(Path(folder), layers=arguments.layers, repeats=arguments.repeats)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name}: {value}")
    return 0


def lacking(folder: Path, layers: int) -> str:
    """What the machine lacks, in one line; empty where it has enough."""
    n_bytes = sum(2 * torch.Size(shape).numel() for shape in shapes(layers).values())
    free = shutil.disk_usage(folder).free
    if free < 3.2 * n_bytes:
        return f"{folder} has {free / 1e9:.1f} GB free, {3.2 * n_bytes / 1e9:.1f} GB are needed"
    memory = 1024 * _kilobytes("/proc/meminfo", "MemAvailable")
    if memory < 1.5 * n_bytes:
        return f"{memory / 1e9:.1f} GB of memory are free, {1.5 * n_bytes / 1e9:.1f} GB are needed"
    return ""


def compare(folder: Path, *, layers: int, repeats: int) -> dict[str, Any]:
    """All jobs on one checkpoint; the ratio is that of the median times."""
    source = write_checkpoint(folder / "source", layers)
    own = start_job("nothing", folder)["peak_bytes"]
    runs: dict[str, list[dict[str, float]]] = {"copy": [], "edit": []}
    written = "copy"
    start_job(written, folder)
    for repeat in range(repeats):
        for job in sorted(runs, reverse=repeat % 2 == 1):
            shutil.rmtree(folder / written)
            os.sync()
            runs[job].append(start_job(job, folder))
            written = job
    shutil.rmtree(folder / written)
    os.sync()
    start_job("edit", folder)
    transformers = start_job("transformers", folder)
    agreement = agree(folder / "edit", folder / "transformers")
    checkpoint = open_checkpoint(source)
    largest = max(4 * torch.Size(t.shape).numel() for t in checkpoint.tensors.values())
    record = json.loads((folder / "edit" / "edit.json").read_text(encoding="utf-8"))
    copy, edit = (statistics.median(r["seconds"] for r in runs[job]) for job in ("copy", "edit"))
    peak = max(run["peak_bytes"] for run in runs["edit"])
    return {
        "compared": "seconds of the streamed edit over seconds of copying the files, both flushed",
        "ratio": edit / copy,
        "results_agree": agreement["agree"],
        "agreement_with_transformers": agreement,
        "checkpoint_gb": checkpoint.n_bytes / 1e9,
        "n_shards": len(checkpoint.shards),
        "tensors_edited": f"{len(record['tensors'])} of {record['n_tensors']}",
        "coverage": record["coverage"],
        "leftover": record["leftover"],
        "copy_seconds": [round(run["seconds"], 2) for run in runs["copy"]],
        "edit_seconds": [round(run["seconds"], 2) for run in runs["edit"]],
        "transformers_seconds": round(transformers["seconds"], 2),
        "transformers_over_copy": transformers["seconds"] / copy,
        "largest_tensor_float32_mb": largest / 1e6,
        "interpreter_mb": own / 1e6,
        "edit_peak_mb": peak / 1e6,
        "edit_peak_over_largest_float32": (peak - own) / largest,
        "peak_is_below_three_times_the_largest": peak < 3 * largest + own,
        "transformers_peak_mb": transformers["peak_bytes"] / 1e6,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
    }


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """The tensors of Llama-3 8B with fewer layers."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (D_VOCAB, D_MODEL)}
    for i in range(layers):
        layer = f"model.layers.{i}"
        found |= {
            f"{layer}.input_layernorm.weight": (D_MODEL,),
            f"{layer}.mlp.down_proj.weight": (D_MODEL, D_MLP),
            f"{layer}.mlp.gate_proj.weight": (D_MLP, D_MODEL),
            f"{layer}.mlp.up_proj.weight": (D_MLP, D_MODEL),
            f"{layer}.post_attention_layernorm.weight": (D_MODEL,),
            f"{layer}.self_attn.k_proj.weight": (D_KEYS, D_MODEL),
            f"{layer}.self_attn.o_proj.weight": (D_MODEL, D_MODEL),
            f"{layer}.self_attn.q_proj.weight": (D_MODEL, D_MODEL),
            f"{layer}.self_attn.v_proj.weight": (D_KEYS, D_MODEL),
        }
    return {**found, "model.norm.weight": (D_MODEL,), "lm_head.weight": (D_VOCAB, D_MODEL)}


def write_checkpoint(folder: Path, layers: int) -> Path:
    """Random numbers (the same 67 million, from another place in each tensor) as a checkpoint."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    pool = (0.02 * torch.randn(_POOL, generator=generator)).to(torch.bfloat16)
    shards: list[dict[str, Tensor]] = [{}]
    for number, (name, shape) in enumerate(shapes(layers).items()):
        size = torch.Size(shape).numel()
        if shards[-1] and sum(t.nbytes for t in shards[-1].values()) + 2 * size > _SHARD:
            shards.append({})
        rolled = pool.roll(number * 1_000_003)
        shards[-1][name] = rolled.repeat(-(-size // _POOL))[:size].reshape(shape)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
        shard.clear()
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    config = {**_CONFIG, "num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    vector = torch.randn(D_MODEL, generator=generator)
    save_direction(Direction(vector=vector), folder.parent / "direction.safetensors")
    return folder


def start_job(job: str, folder: Path) -> dict[str, float]:
    """Run one job in a process of its own."""
    command = [sys.executable, __file__, "--job", job, "--folder", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_job(job: str, folder: Path) -> dict[str, float]:
    """Do one job in this process; seconds without imports, and the peak of the whole process."""
    started = time.perf_counter()
    JOBS[job](folder)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_bytes": 1024.0 * _kilobytes("/proc/self/status", "VmHWM")}


def nothing(folder: Path) -> None:
    """Imports were done when the file was read."""
    del folder


def copy(folder: Path) -> None:
    """Copy the files and flush them."""
    (folder / "copy").mkdir()
    for path in sorted((folder / "source").iterdir()):
        target = folder / "copy" / path.name
        shutil.copyfile(path, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())


def edit(folder: Path) -> None:
    """The streamed edit."""
    direction = load_direction(folder / "direction.safetensors")
    orthogonalize_checkpoint(ModelFolder(folder=folder / "source"), folder / "edit", [direction])


def transformers(folder: Path) -> None:
    """Load, edit every matrix that writes to the stream, save."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - loads much

    vector = load_direction(folder / "direction.safetensors").vector
    unit = vector / vector.norm()
    model = AutoModelForCausalLM.from_pretrained(folder / "source", dtype=torch.bfloat16)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight = parameter.float()
                parameter.copy_(weight - torch.outer(unit, unit @ weight))
            elif name.endswith("embed_tokens.weight"):
                weight = parameter.float()
                parameter.copy_(weight - torch.outer(weight @ unit, unit))
    model.save_pretrained(folder / "transformers", max_shard_size="1GB")


def agree(one: Path, other: Path) -> dict[str, Any]:
    """Both results, tensor by tensor: equal but for the last bit of a few numbers."""
    mine, theirs = open_checkpoint(one), open_checkpoint(other)
    n_equal = n_numbers = 0
    worst = 0.0
    for name in mine.tensors:
        a, b = mine.read(name), theirs.read(name)
        n_equal += int((a == b).sum())
        n_numbers += a.numel()
        if not torch.equal(a, b):
            worst = max(worst, float((a.float() - b.float()).abs().max()))
    same_names = mine.tensors.keys() == theirs.tensors.keys()
    share = n_equal / n_numbers
    return {
        "same_tensors": same_names,
        "share_of_equal_numbers": share,
        "largest_difference": worst,
        "agree": same_names and share > 0.999 and worst < 2e-3,
    }


def _kilobytes(file: str, key: str) -> int:
    lines = Path(file).read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{key}:")))


JOBS: dict[str, Callable[[Path], None]] = {
    "nothing": nothing,
    "copy": copy,
    "edit": edit,
    "transformers": transformers,
}

if __name__ == "__main__":
    sys.exit(main())
