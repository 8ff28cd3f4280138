"""A vLLM engine that answers requests, and the interventions inside its workers.

Run by the Python of vLLM's environment, which has no refusalscope: `refusalscope_vllm.py IN OUT`,
two open file descriptors. A request is one line of JSON on IN, and is answered by lines of JSON on
OUT, of which the last has `"end": true`, or by one with `"error"`. Vectors come as paths of
safetensors files, and what runs in a worker are the methods of `Edits`, by name: nothing is
pickled.

The only module that imports vLLM.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports] # of its own environment
from vllm import __version__ as VERSION  # pyright: ignore[reportMissingImports]

Request = dict[str, Any]
Reply = dict[str, Any]


class Edits:
    """Methods of a vLLM worker (`worker_extension_cls`): interventions, and what writers write."""

    model_runner: Any

    def refusalscope_modules(self) -> list[str]:
        """The names of all modules of the model."""
        return [name for name, _ in self.model_runner.model.named_modules()]

    def refusalscope_ablate(self, path: str, writers: list[str], first_layer: str) -> None:
        """Take a direction out of what enters the first layer and of what every writer writes."""
        unit = _vector(path)
        unit = unit / unit.norm()

        def ablate(hidden: Tensor) -> Tensor:
            x, r = hidden.float(), unit.to(hidden.device)
            component = (x * r).sum(-1, keepdim=True)
            return torch.addcmul(x, component, r, value=-1).to(hidden.dtype)

        self._handles = [
            *(self._module(name).register_forward_hook(_on_output(ablate)) for name in writers),
            self._module(first_layer).register_forward_pre_hook(
                _on_input(ablate), with_kwargs=True
            ),
        ]

    def refusalscope_add(self, path: str, layer: str) -> None:
        """Add a vector to what enters a layer."""
        vector = _vector(path)

        def add(hidden: Tensor) -> Tensor:
            return (hidden.float() + vector.to(hidden.device)).to(hidden.dtype)

        module = self._module(layer)
        self._handles = [module.register_forward_pre_hook(_on_input(add), with_kwargs=True)]

    def refusalscope_watch(self, path: str, writers: list[str]) -> None:
        """Keep how far what each writer writes next lies along a direction."""
        unit = _vector(path)
        seen = self._seen = dict[str, list[float]]()

        def observer(name: str) -> Callable[..., None]:
            def observe(_module: object, _args: object, output: Any) -> None:  # noqa: ANN401
                hidden = output[0] if isinstance(output, tuple) else output
                along = hidden.reshape(-1, hidden.shape[-1]).float() @ unit.to(hidden.device)
                seen.setdefault(name, along.tolist())

            return observe

        self._handles = [
            self._module(name).register_forward_hook(observer(name)) for name in writers
        ]

    def refusalscope_restore(self) -> dict[str, list[float]]:
        """Take everything off again, and tell what was seen."""
        for handle in self.__dict__.pop("_handles", []):
            handle.remove()
        return self.__dict__.pop("_seen", {})

    def _module(self, name: str) -> torch.nn.Module:
        return self.model_runner.model.get_submodule(name)


def _vector(path: str) -> Tensor:
    return load_file(path)["vector"].float()


def _on_output(edit: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def hook(_module: object, _args: object, output: Any) -> Any:  # noqa: ANN401
        if isinstance(output, tuple):
            return (edit(output[0]), *output[1:])
        return edit(output)

    return hook


def _on_input(edit: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """The first tensor of numbers is edited: vLLM's own layers are given positions before it."""

    def hook(_module: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        if "hidden_states" in kwargs:
            return args, {**kwargs, "hidden_states": edit(kwargs["hidden_states"])}
        at = next(
            i for i, one in enumerate(args) if isinstance(one, Tensor) and one.is_floating_point()
        )
        return (*args[:at], edit(args[at]), *args[at + 1 :]), kwargs

    return hook


class Server:
    """An engine, once it is loaded, and the requests that it answers."""

    def __init__(self) -> None:
        self._llm: Any = None
        self._n_asked = 0

    def answer(self, request: Request) -> Iterator[Reply]:
        """The replies to one request."""
        does: dict[str, Callable[..., Iterator[Reply]]] = {
            "load": self._load,
            "call": self._call,
            "write": self._write,
            "score": self._score,
        }
        given = dict(request)
        yield from does[given.pop("do")](**given)

    def _load(self, hooks: bool, **options: Any) -> Iterator[Reply]:  # noqa: ANN401
        if hooks:
            options["worker_extension_cls"] = f"refusalscope_vllm.{Edits.__name__}"
        self._llm = LLM(**options, enable_prefix_caching=True, generation_config="vllm")
        modules = self._llm.collective_rpc("refusalscope_modules")[0] if hooks else []
        yield {"version": VERSION, "modules": modules}

    def _call(self, method: str, args: list[Any]) -> Iterator[Reply]:
        found = self._llm.collective_rpc(method, args=tuple(args))
        # Keys and values of other interventions are not those of this one.
        self._llm.reset_prefix_cache()
        yield {"found": found[0]}

    def _write(
        self, prompts: list[list[int]], limits: list[int], stops: list[int]
    ) -> Iterator[Reply]:
        params = [
            SamplingParams(
                temperature=0.0,
                max_tokens=limit,
                stop_token_ids=stops,
                ignore_eos=True,  # the stops are told, and there are none but those
                detokenize=False,
            )
            for limit in limits
        ]
        for place, output in self._run(prompts, params):
            yield {"place": place, "ids": list(output.outputs[0].token_ids)}

    def _score(self, texts: list[list[int]]) -> Iterator[Reply]:
        # Prompt log-probabilities are of whole passes: the prefix cache is not read for them.
        params = SamplingParams(
            temperature=0.0, max_tokens=1, prompt_logprobs=0, ignore_eos=True, detokenize=False
        )
        for place, output in self._run(texts, [params] * len(texts)):
            pairs = zip(output.prompt_logprobs[1:], texts[place][1:], strict=True)
            yield {"place": place, "scores": [at[token].logprob for at, token in pairs]}

    def _run(self, prompts: list[list[int]], params: list[Any]) -> Iterator[tuple[int, Any]]:
        """Requests side by side, each as it is done."""
        engine = self._llm.llm_engine
        first = self._n_asked
        for i, (ids, own) in enumerate(zip(prompts, params, strict=True)):
            engine.add_request(str(first + i), {"prompt_token_ids": ids}, own)
        self._n_asked += len(prompts)
        while engine.has_unfinished_requests():
            for output in engine.step():
                if output.finished:
                    # vLLM may lengthen the name of a request behind a dash.
                    yield int(output.request_id.split("-")[0]) - first, output


def main() -> None:
    """Answer requests until there are no more."""
    requests = os.fdopen(int(sys.argv[1]), encoding="utf-8")
    replies = os.fdopen(int(sys.argv[2]), "w", encoding="utf-8")
    server = Server()

    def send(reply: Reply) -> None:
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

    for line in requests:
        try:
            for reply in server.answer(json.loads(line)):
                send(reply)
            send({"end": True})
        except Exception as error:
            send({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
