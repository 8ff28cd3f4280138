"""What our worker uses of vLLM, on a transformers model, one row after another.

`FAKE_VLLM` makes it fail: `die:N` at the N-th row written, `die-edited:N` so of an edited model,
`scale:MODULE` by a module that writes something else, `deaf` by layers whose inputs cannot be
changed, `load` by a model it does not know.
"""

import importlib
import os
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoModelForCausalLM

__version__ = "fake"
_FAULT, _, _WHERE = os.environ.get("FAKE_VLLM", "").partition(":")


@dataclass
class SamplingParams:
    temperature: float
    max_tokens: int
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    detokenize: bool = True
    prompt_logprobs: int | None = None


@dataclass
class _Request:
    name: str
    ids: list[int]
    params: SamplingParams


class LLM:
    def __init__(
        self, *, model: str, worker_extension_cls: str | None = None, **options: Any
    ) -> None:
        if _FAULT == "load":
            raise ValueError("no such architecture,\nsays a message of several lines")
        assert options["enforce_eager"] or worker_extension_cls is None
        own = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, options["dtype"]))
        if _FAULT == "scale":
            own.get_submodule(_WHERE).register_forward_hook(_doubled)
        if _FAULT == "deaf":
            for layer in own.model.layers:
                layer.register_forward_pre_hook = lambda *_, **__: SimpleNamespace(remove=str)
        self.llm_engine = _Engine(own.eval(), is_edited=model.endswith("edited"))
        if worker_extension_cls is None:
            return
        module, _, name = worker_extension_cls.rpartition(".")
        self._worker = getattr(importlib.import_module(module), name)()
        self._worker.model_runner = SimpleNamespace(model=own)

    def collective_rpc(self, method: str, args: tuple[Any, ...] = ()) -> list[Any]:
        return [getattr(self._worker, method)(*args)]

    def reset_prefix_cache(self) -> None:
        pass


class _Engine:
    def __init__(self, model: Any, *, is_edited: bool) -> None:
        self._model = model
        self._fatal = ("die", "die-edited") if is_edited else ("die",)
        self._waiting: list[_Request] = []
        self._n_done = 0

    def add_request(self, name: str, prompt: dict[str, list[int]], params: SamplingParams) -> None:
        self._waiting.insert(0, _Request(name, prompt["prompt_token_ids"], params))

    def has_unfinished_requests(self) -> bool:
        return bool(self._waiting)

    @torch.inference_mode()
    def step(self) -> list[Any]:
        request = self._waiting.pop()
        scores = request.params.prompt_logprobs is not None
        if not scores:
            self._n_done += 1
        if not scores and _FAULT in self._fatal and self._n_done == int(_WHERE):
            os._exit(9)
        written: list[int] = []
        logits = self._logits(request.ids)
        prompt = logits.log_softmax(-1)
        while len(written) < request.params.max_tokens:
            written.append(int(logits[-1].argmax()))
            if written[-1] in request.params.stop_token_ids:
                break
            logits = self._logits([*request.ids, *written])
        pairs = [
            {token: SimpleNamespace(logprob=prompt[i, token].item())}
            for i, token in enumerate(request.ids[1:])
        ]
        return [
            SimpleNamespace(
                finished=True,
                request_id=f"{request.name}-0",
                outputs=[SimpleNamespace(token_ids=written)],
                prompt_logprobs=[None, *pairs] if scores else None,
            )
        ]

    def _logits(self, ids: list[int]) -> torch.Tensor:
        return self._model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def _doubled(_module: object, _args: object, output: Any) -> Any:
    if isinstance(output, tuple):
        return (2 * output[0], *output[1:])
    return 2 * output
