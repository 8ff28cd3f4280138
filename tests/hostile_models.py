"""A tiny model's folder made hostile, in whatever can be wrong with what is in it."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"
Change = Callable[[Path], object]


def config(**changes: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def text(name: str, content: str | bytes) -> Change:
    def change(folder: Path) -> None:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)

    return change


def header(edit: Callable[[dict[str, Any]], str]) -> Change:
    """Write the weights anew with another header over the same bytes."""

    def change(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        new = edit(json.loads(data[8 : 8 + length])).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(new)) + new + data[8 + length :])

    return change


def named_twice(fields: dict[str, Any]) -> str:
    name, entry = next((n, e) for n, e in fields.items() if n != "__metadata__")
    return json.dumps(fields)[:-1] + f", {json.dumps(name)}: {json.dumps(entry)}}}"


def lying_offsets(fields: dict[str, Any]) -> str:
    name = next(n for n in fields if n != "__metadata__")
    begin, end = fields[name]["data_offsets"]
    return json.dumps({**fields, name: {**fields[name], "data_offsets": [begin, end + 10**15]}})


def odd_dtype(fields: dict[str, Any]) -> str:
    name = next(n for n in fields if n != "__metadata__")
    return json.dumps({**fields, name: {**fields[name], "dtype": "F99"}})


def index_of_elsewhere(folder: Path) -> None:
    outside = folder.parent / "outside.safetensors"
    shutil.move(folder / WEIGHTS, outside)
    names = load_file(outside)
    weight_map = dict.fromkeys(names, "../outside.safetensors")
    save_file({"x": names["lm_head.weight"]}, folder / "a.safetensors", metadata={"format": "pt"})
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": weight_map}))


def pickled_alone(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'touch ran'\ntR.")


def own_code(folder: Path) -> None:
    code = f"open({str(folder.parent / 'ran')!r}, 'w').close()\nclass Own: pass\n"
    (folder / "own.py").write_text(code)
    names = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own", "AutoTokenizer": "own.Own"}
    config(model_type="own", auto_map=names)(folder)


def own_tokenizer_code(folder: Path) -> None:
    code = f"open({str(folder.parent / 'ran')!r}, 'w').close()\nclass Own: pass\n"
    (folder / "own.py").write_text(code)
    path = folder / "tokenizer_config.json"
    fields = {**json.loads(path.read_text()), "tokenizer_class": "Own"}
    path.write_text(json.dumps({**fields, "auto_map": {"AutoTokenizer": ["own.Own", None]}}))


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


def tokens_beyond_the_model(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    for token in tokenizer["added_tokens"]:
        token["id"] += 100_000 if token["content"] == "<model>" else 0
    tokenizer["model"]["vocab"]["<model>"] = 100_003
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


HOSTILE: dict[str, tuple[Change, str]] = {
    "no heads": (config(num_attention_heads=0), "."),
    "less than no layers": (config(num_hidden_layers=-3), "."),
    "heads of a text": (config(num_attention_heads="many"), "config.json"),
    "an unknown dtype": (config(dtype="float99"), "."),
    "an unknown activation": (config(hidden_act="wild"), "cannot be loaded"),
    "an unknown type": (config(model_type="no-such-model"), "config.json"),
    "a type that is a list": (config(model_type=["llama"]), "config.json"),
    "architectures that are a number": (config(architectures=7), "config.json"),
    "layers without end": (config(num_hidden_layers=10**9), "num_hidden_layers = 1000000000"),
    "a width without end": (config(hidden_size=10**12), "hidden_size = 1000000000000"),
    "a vocabulary without end": (config(vocab_size=2**62), "vocab_size ="),
    "positions without end": (config(max_position_embeddings=10**18), "max_position_embeddings"),
    "rotary positions of nonsense": (config(rope_parameters={"rope_type": "spiral"}), "."),
    "rotary positions of a text": (config(rope_parameters="spiral"), "."),
    "a pad token of nonsense": (config(pad_token_id=-(10**9)), "."),
    "a quantization of nonsense": (config(quantization_config={"quant_method": "own"}), "."),
    "a config nested without end": (text("config.json", nested(100_000)), "config.json"),
    "a config in another encoding": (text("config.json", b"\xff\xfe{}"), "config.json"),
    "a config that is a list": (text("config.json", "[]"), "config.json"),
    "a generation config of nonsense": (
        text("generation_config.json", '{"eos_token_id": "stop", "max_length": []}'),
        "",
    ),
    "a torn tokenizer": (text("tokenizer.json", '{"version": "1.0", "model": {'), "tokenizer"),
    "a tokenizer of nonsense": (
        text("tokenizer.json", '{"version": "1.0", "model": {"type": "BPE", "vocab": 3}}'),
        "tokenizer",
    ),
    "a tokenizer config nested without end": (
        text("tokenizer_config.json", nested(100_000)),
        "tokenizer",
    ),
    "tokens beyond the model": (tokens_beyond_the_model, "do not belong together"),
    "a template that loops": (
        text(
            "chat_template.jinja",
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        ),
        "has not ended after",
    ),
    "a template that divides by zero": (text("chat_template.jinja", "{{ 1 / 0 }}"), "division"),
    "a template that reaches for Python": (
        text("chat_template.jinja", "{{ cycler.__init__.__globals__.os.system('touch ran') }}"),
        "chat template",
    ),
    "a template in another encoding": (text("chat_template.jinja", b"\xff\xfe\x00"), "."),
    "a torn header": (text(WEIGHTS, struct.pack("<Q", 50) + b'{"lm_head'), "not a whole"),
    "a header without end": (text(WEIGHTS, struct.pack("<Q", 2**63) + b"{}"), "not a whole"),
    "a tensor named twice": (header(named_twice), "is in it twice"),
    "offsets that lie": (header(lying_offsets), "not a whole"),
    "numbers of an unknown kind": (header(odd_dtype), "not a whole"),
    "an index of files elsewhere": (index_of_elsewhere, "'../outside.safetensors'; expected names"),
    "an index of nonsense": (
        lambda folder: (
            shutil.move(folder / WEIGHTS, folder / "a.safetensors"),
            text(f"{WEIGHTS}.index.json", '{"weight_map": [1]}')(folder),
        ),
        "is not the index of a checkpoint",
    ),
    "pickled weights": (pickled_alone, "pickled weights are not loaded"),
    "code of its own": (own_code, "--trust-remote-code"),
    "a tokenizer with code of its own": (own_tokenizer_code, ""),
    "an adapter of nonsense": (
        lambda folder: (
            (folder / "config.json").unlink(),
            text("adapter_config.json", nested(100_000))(folder),
        ),
        "adapter",
    ),
}
"""By what is wrong: the change, and what the line says; nothing where a model may come of it."""
