"""A vLLM engine in a process of its own, under the Python of an environment of its own.

vLLM pins versions of torch and transformers that are not ours, and an engine that dies takes
nothing along. Requests and replies are lines of JSON over two pipes; see `vllm.refusalscope_vllm`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from refusalscope.errors import EngineError, InputError
from refusalscope.models.prompts import Prompt
from refusalscope.models.scored_text import ScoredText

_WORKER = Path(__file__).parent / "vllm" / "refusalscope_vllm.py"
_MOST_SHOWN = 300
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process to end
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "HF_HUB_OFFLINE": "1",  # it is given a folder
}


class VllmProcess:
    """An engine that is asked and answers."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", requests: IO[str], replies: IO[str], log: Path
    ) -> None:
        self._process = process
        self._requests = requests
        self._replies = replies
        self._log = log

    def ask(self, do: str, **given: object) -> Iterator[dict[str, Any]]:
        """Yield the replies to one request.

        Raises:
            EngineError: it could not do it, or it is gone.
        """
        try:
            self._requests.write(json.dumps({"do": do, **given}) + "\n")
            self._requests.flush()
        except OSError:  # nobody reads: the reply is the end of the file
            pass
        for line in self._replies:
            reply = json.loads(line)
            if "error" in reply:
                raise EngineError(
                    f"vLLM cannot do this: {_short(reply['error'])}; {self._advice()}"
                )
            if reply.get("end"):
                return
            yield reply
        status = self._process.wait()
        raise EngineError(
            f"vLLM's process ended with status {status} ({self._last_words()}); {self._advice()}"
        )

    def one(self, do: str, **given: object) -> dict[str, Any]:
        """The only reply to a request."""
        (reply,) = self.ask(do, **given)
        return reply

    def written(
        self, prompts: Sequence[Prompt], limits: Sequence[int], stops: Collection[int]
    ) -> Iterator[tuple[int, list[int]]]:
        """Yield a prompt's place and the tokens behind it, greedily, as each is done."""
        asked = [list(prompt.ids) for prompt in prompts]
        for reply in self.ask("write", prompts=asked, limits=list(limits), stops=sorted(stops)):
            yield reply["place"], list(reply["ids"])

    def scores(self, texts: Sequence[ScoredText]) -> list[list[float]]:
        """Log-probability of each token but the first, given those before it, in nats."""
        found: dict[int, list[float]] = {}
        for reply in self.ask("score", texts=[list(text.ids) for text in texts]):
            found[reply["place"]] = reply["scores"]
        return [found[i] for i in range(len(texts))]

    def _last_words(self) -> str:
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        return _short(lines[-1]) if lines else "it printed nothing"

    def _advice(self) -> str:
        return (
            f"what it printed is in {self._log}; completions that are there are kept, and --engine "
            f"transformers goes on with them"
        )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MOST_SHOWN else line[: _MOST_SHOWN - 1] + "\u2026"


def no_python(python: str, why: str) -> InputError:
    """The error of an interpreter that cannot be run."""
    return InputError(
        f"--vllm-python {python!r} cannot be run ({why}); give the python of an environment that "
        f"has vLLM"
    )


@contextmanager
def vllm_process(python: str | None, *, log: Path) -> Generator[VllmProcess]:
    """A process that waits for requests; ended when the context closes.

    Args:
        python: The interpreter of vLLM's environment; None is this one.
        log: Where what it prints goes.

    Raises:
        InputError: there is no such interpreter.
    """
    their_in, our_out = os.pipe()
    our_in, their_out = os.pipe()
    own = {**_ENVIRONMENT, **os.environ}
    # Workers that vLLM starts find our methods by the name of their module.
    found = (str(_WORKER.parent), os.environ.get("PYTHONPATH"))
    own["PYTHONPATH"] = os.pathsep.join(path for path in found if path)
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        os.fdopen(our_out, "w", encoding="utf-8") as requests,
        os.fdopen(our_in, encoding="utf-8") as replies,
        log.open("wb") as printed,
    ):
        try:
            process = subprocess.Popen(
                [python or sys.executable, str(_WORKER), str(their_in), str(their_out)],
                pass_fds=(their_in, their_out),
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                env=own,
            )
        except OSError as error:
            raise no_python(python or sys.executable, str(error.strerror)) from error
        finally:
            os.close(their_in)
            os.close(their_out)
        try:
            yield VllmProcess(process, requests, replies, log)
        finally:
            process.kill()
            process.wait()
