"""A judge's model behind an OpenAI-compatible server: vLLM's, or any other.

https://platform.openai.com/docs/api-reference describes the two routes. Prompts with a text of
their own go to `/completions`, so that the server adds nothing to them; others go to
`/chat/completions`, for the server's chat template.
"""

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx2

from refusalscope.errors import InputError
from refusalscope.evaluation.answers import OnAnswer, RawAnswer
from refusalscope.evaluation.judge_kinds import JudgeKind
from refusalscope.evaluation.judge_prompt import JudgePrompt

_LOG = logging.getLogger(__name__)
_REFUSED_PROMPT = (400, 413, 422)
"""What servers say of one prompt, such as that it is too long; asking again does not help."""
_TRY_AGAIN = (408, 409, 425, 429)
_BEGIN_TOKENS = ("<|begin_of_text|>", "<s>")
"""Servers put the begin token in front of a completion prompt themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How a server is asked.

    Attributes:
        url: Up to `/v1`.
        model: As the server calls it.
        key: Sent as a bearer token; never written anywhere.
        chat: Send every prompt as messages, for servers without `/completions`.
        timeout: Seconds until an answer must be there.
        retries: How often one prompt is asked again after 408, 409, 425, 429, 5xx, a cut
            connection, a time-out or an answer that is none.
        first_wait: Seconds before the first of them; doubled each time, and drawn between half
            and all of it.
        longest_wait: Seconds that no wait exceeds, what the server asks for included.
    """

    url: str
    model: str
    key: str | None = None
    chat: bool = False
    concurrency: int = 8
    timeout: float = 60.0
    retries: int = 6
    first_wait: float = 0.5
    longest_wait: float = 60.0


class _NoAnswerError(Exception):
    """The prompt may be asked again; `wait` is what the server asks for, in seconds."""

    def __init__(self, reason: str, *, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class ServerAnswerer:
    """Answers prompts through a server, several at a time, at temperature 0.

    Raises:
        InputError: the judge's prompt has no form that the server could be sent.
    """

    def __init__(self, kind: JudgeKind, options: ServerOptions) -> None:
        if options.chat and not kind.build("instruction", "completion").messages:
            raise InputError(
                f"judge {kind.name} has no chat form; leave --chat away (the server then needs "
                f"/completions)"
            )
        if options.concurrency < 1 or options.retries < 0:
            raise InputError(
                f"concurrency is {options.concurrency} and retries {options.retries}; expected at "
                f"least 1 and 0"
            )
        self._kind = kind
        self._options = options

    @property
    def model(self) -> str:
        """The model's name on the server."""
        return self._options.model

    @property
    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        """What is asked for beside the prompt; not the address, which may change."""
        return {
            "runs": "server",
            "chat": self._options.chat,
            "temperature": 0,
            "max_new_tokens": self._kind.max_new_tokens,
        }

    def answer(self, prompts: Sequence[JudgePrompt], on_answer: OnAnswer) -> None:
        """Ask every prompt until it is answered, or has been asked too often.

        Raises:
            InputError: the server refuses us (401, 403, 404), or some prompts got no answer;
                those that did were handed on.
        """
        asyncio.run(self._answer_all(prompts, on_answer))

    async def _answer_all(self, prompts: Sequence[JudgePrompt], on_answer: OnAnswer) -> None:
        options = self._options
        headers = {} if options.key is None else {"Authorization": f"Bearer {options.key}"}
        limits = httpx2.Limits(max_connections=options.concurrency)
        failures: list[str] = []
        queue = iter(enumerate(prompts))
        async with httpx2.AsyncClient(
            headers=headers, limits=limits, timeout=options.timeout
        ) as client:

            async def work() -> None:
                for at, prompt in queue:
                    try:
                        on_answer(at, await self._ask(client, prompt, random.Random(at)))
                    except _NoAnswerError as error:
                        failures.append(str(error))

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(options.concurrency, len(prompts))):
                        group.create_task(work())
            except ExceptionGroup as group_error:
                # One worker stopped them all: what it met is the error, not that there were many.
                raise group_error.exceptions[0] from group_error
        if failures:
            raise InputError(
                f"{options.url} gave no answer to {len(failures)} of {len(prompts)} prompts "
                f"(last: {failures[-1]}); the other answers are kept: start again to ask these only"
            )

    async def _ask(
        self, client: httpx2.AsyncClient, prompt: JudgePrompt, rng: random.Random
    ) -> RawAnswer:
        for attempt in range(self._options.retries + 1):
            try:
                async with asyncio.timeout(self._options.timeout):
                    return await self._ask_once(client, prompt)
            except (httpx2.TransportError, TimeoutError) as error:
                problem = _NoAnswerError(str(error) or type(error).__name__)
            except _NoAnswerError as error:
                problem = error
            if attempt == self._options.retries:
                raise problem
            wait = min(self._options.longest_wait, self._options.first_wait * 2**attempt)
            wait *= rng.uniform(0.5, 1.0)
            if problem.wait is not None:
                wait = min(self._options.longest_wait, max(wait, problem.wait))
            _LOG.info("no answer (%s); asked again in %.1f s", problem, wait)
            await asyncio.sleep(wait)
        raise AssertionError("unreachable")

    async def _ask_once(self, client: httpx2.AsyncClient, prompt: JudgePrompt) -> RawAnswer:
        route, body = self._request(prompt)
        response = await client.post(f"{self._options.url.rstrip('/')}/{route}", json=body)
        status = response.status_code
        if status in _REFUSED_PROMPT:
            return RawAnswer(text="", failure=f"the server refused the prompt ({_said(response)})")
        if status in _TRY_AGAIN or status >= 500:
            raise _NoAnswerError(_said(response), wait=_seconds(response))
        if status != 200:
            raise InputError(
                f"{self._options.url} says {_said(response)}; check --server, --model and the key"
            )
        return RawAnswer(text=_text_of(response))

    def _request(self, prompt: JudgePrompt) -> tuple[str, dict[str, object]]:
        body: dict[str, object] = {
            "model": self._options.model,
            "temperature": 0,
            "max_tokens": self._kind.max_new_tokens,
        }
        if prompt.text is None or self._options.chat:
            messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
            return "chat/completions", {**body, "messages": messages}
        text = prompt.text
        for token in _BEGIN_TOKENS:
            if text.lstrip().startswith(token):
                text = text.lstrip().removeprefix(token)
        if self._kind.one_word is not None and not text.endswith(self._kind.one_word.lead):
            text += self._kind.one_word.lead
        return "completions", {**body, "prompt": text}


def _text_of(response: httpx2.Response) -> str:
    try:
        choice = response.json()["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
    except (ValueError, LookupError, TypeError) as error:
        raise _NoAnswerError(f"an answer that is no completion: {response.text[:80]!r}") from error
    if not isinstance(text, str):
        raise _NoAnswerError(f"an answer without text: {response.text[:80]!r}")
    return text.strip()


def _said(response: httpx2.Response) -> str:
    text = " ".join(response.text.split())[:120]
    return f"{response.status_code} {text}".strip()


def _seconds(response: httpx2.Response) -> float | None:
    """What `Retry-After` asks for; a date is not understood and ignored."""
    try:
        return float(response.headers["Retry-After"])
    except (KeyError, ValueError):
        return None
