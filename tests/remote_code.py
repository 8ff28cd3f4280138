"""A tiny model that brings its own code, which leaves a mark wherever it is run."""

import json
from pathlib import Path

from tiny_models import save_tiny

_CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

with Path({mark!r}).open("a") as file:
    file.write("run\\n")


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


def save_with_code(folder: Path, mark: Path) -> Path:
    """A tiny Llama whose classes are in its folder; to import them adds a line to `mark`."""
    save_tiny(folder)
    (folder / "modeling_own.py").write_text(_CODE.format(mark=str(mark)))
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "architectures": ["OwnForCausalLM"],
        "auto_map": {
            "AutoConfig": "modeling_own.OwnConfig",
            "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def times_run(mark: Path) -> int:
    """How often the code was run."""
    return len(mark.read_text().splitlines()) if mark.is_file() else 0
