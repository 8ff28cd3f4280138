"""A judge's model behind an OpenAI-compatible server: vLLM's, or any other.

https://platform.openai.com/docs/api-reference describes the two routes. Prompts with a text of
their own go to `/completions`, so that the server adds nothing to them; others go to
`/chat/completions`, for the server's chat template.

A server tokenizes what it is sent as one text, so what an instruction or a completion spells of
control tokens would be control tokens to it. Such words are sent with a blank in them.
"""

import asyncio
import logging
import math
import random
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx2

from refusalscope.errors import InputError
from refusalscope.evaluation.answers import OnAnswer, RawAnswer
from refusalscope.evaluation.judge_kinds import JudgeKind
from refusalscope.evaluation.judge_prompt import JudgePrompt
from refusalscope.evaluation.server_address import Redactor, require_key, server_address
from refusalscope.evaluation.server_reply import UnreadableReplyError, ask, completion_text
from refusalscope.models.text_tokens import Frame

_LOG = logging.getLogger(__name__)
_REFUSED_PROMPT = (400, 413, 422)
"""What servers say of one prompt, such as that it is too long; asking again does not help."""
_TRY_AGAIN = (408, 409, 425, 429)
_BEGIN_TOKENS = ("<|begin_of_text|>", "<s>")
"""Servers put the begin token in front of a completion prompt themselves."""
_GIVEN_UP = 8
"""Prompts without an answer, while none has one, after which no more are asked."""
_CONTROL = re.compile(
    r"<\|[^\s<>|]{1,64}\|?>|<[^\s<>|]{1,64}\|>|<\uff5c[^<>]{1,64}\uff5c>"
    r"|</?(?:s|bos|eos|pad|unk|mask|sep|cls|think|start_of_turn|end_of_turn|tool_\w{1,64})>"
    r"|\[/?[A-Z][A-Z_]{2,64}\]|<</?SYS>>"
)
"""How the control tokens of the models that judge, and of their kin, are spelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How a server is asked.

    Attributes:
        url: Up to `/v1`; a user part in it is sent as such, and shown nowhere.
        model: As the server calls it.
        key: Sent as a bearer token; never written anywhere, nor shown.
        chat: Send every prompt as messages, for servers without `/completions`.
        timeout: Seconds until an answer must be there.
        retries: How often one prompt is asked again after 408, 409, 425, 429, 5xx, a cut
            connection, a time-out or an answer that is none.
        first_wait: Seconds before the first of them; doubled each time, and drawn between half
            and all of it.
        longest_wait: Seconds that no wait exceeds, what the server asks for included.
    """

    url: str = field(repr=False)
    model: str
    key: str | None = field(default=None, repr=False)
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
        InputError: the judge's prompt has no form that the server could be sent, or address, key
            or time limit are no such things.
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
        if not math.isfinite(options.timeout) or options.timeout <= 0:
            raise InputError(f"--timeout is {options.timeout}; expected seconds above 0")
        require_key(options.key)
        self._address = server_address(options.url)
        if options.key is not None and self._address.user is not None:
            raise InputError(
                f"--server has a user part and a key is given for {self._address.url}; give either"
            )
        self._redact = Redactor(key=options.key, user=self._address.user)
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
            InputError: the server refuses us (401, 403, 404), sends what is no answer's size, or
                some prompts got no answer; those that did were handed on.
        """
        asyncio.run(self._answer_all(prompts, on_answer))

    async def _answer_all(self, prompts: Sequence[JudgePrompt], on_answer: OnAnswer) -> None:
        options = self._options
        failures: list[str] = []
        n_answered = 0
        queue = iter(enumerate(prompts))
        async with self._client() as client:

            async def work() -> None:
                nonlocal n_answered
                for at, prompt in queue:
                    try:
                        answer = await self._ask(client, prompt, random.Random(at))
                    except _NoAnswerError as error:
                        failures.append(str(error))
                        if not n_answered and len(failures) >= _GIVEN_UP:
                            return
                    else:
                        n_answered += 1
                        on_answer(at, answer)

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(options.concurrency, len(prompts))):
                        group.create_task(work())
            except ExceptionGroup as group_error:
                # One worker stopped them all: what it met is the error, not that there were many.
                raise group_error.exceptions[0] from group_error
        if failures:
            given_up = "" if n_answered + len(failures) == len(prompts) else " and is asked no more"
            raise InputError(
                f"{self._address.url} gave no answer to {len(failures)} of {len(prompts)} prompts "
                f"(last: {failures[-1]}){given_up}; the other answers are kept: start again to ask "
                f"these only"
            )

    def _client(self) -> httpx2.AsyncClient:
        options, user = self._options, self._address.user
        headers = {"Accept-Encoding": "identity"}
        if options.key is not None:
            headers["Authorization"] = f"Bearer {options.key}"
        with _no_proxy_of_nonsense(self._redact):
            return httpx2.AsyncClient(
                headers=headers,
                auth=None if user is None else httpx2.BasicAuth(*user),
                # A server is told nothing twice: what it has us keep would grow without end.
                cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
                limits=httpx2.Limits(max_connections=options.concurrency),
                timeout=options.timeout,
            )

    async def _ask(
        self, client: httpx2.AsyncClient, prompt: JudgePrompt, rng: random.Random
    ) -> RawAnswer:
        for attempt in range(self._options.retries + 1):
            try:
                async with asyncio.timeout(self._options.timeout):
                    return await self._ask_once(client, prompt)
            except (httpx2.HTTPError, OSError, UnicodeError, UnreadableReplyError) as error:
                problem = _NoAnswerError(self._redact.said(str(error)) or type(error).__name__)
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
        reply = await ask(client, f"{self._address.url}/{route}", body)
        status, said = reply.status, f"{reply.status} {self._redact.said(reply.text)}".strip()
        if status in _REFUSED_PROMPT:
            return RawAnswer(text="", failure=f"the server refused the prompt ({said})")
        if status in _TRY_AGAIN or status >= 500:
            raise _NoAnswerError(said, wait=reply.wait)
        if status != httpx2.codes.OK:
            raise InputError(
                f"{self._address.url} says {said}; check --server, --model and the key"
            )
        return RawAnswer(text=self._redact(completion_text(reply)))

    def _request(self, prompt: JudgePrompt) -> tuple[str, dict[str, object]]:
        body: dict[str, object] = {
            "model": self._options.model,
            "temperature": 0,
            "max_tokens": self._kind.max_new_tokens,
        }
        if prompt.text is None or self._options.chat:
            messages = [{"role": m.role, "content": _as_text(m.content)} for m in prompt.messages]
            return "chat/completions", {**body, "messages": messages}
        text = "".join(p.text if isinstance(p, Frame) else _as_text(p) for p in prompt.parts)
        for token in _BEGIN_TOKENS:
            if text.lstrip().startswith(token):
                text = text.lstrip().removeprefix(token)
        if self._kind.one_word is not None and not text.endswith(self._kind.one_word.lead):
            text += self._kind.one_word.lead
        return "completions", {**body, "prompt": text}


def _as_text(said: str) -> str:
    """A text with a blank in whatever a server would read as a control token."""
    return _CONTROL.sub(lambda found: f"{found[0][0]} {found[0][1:]}", said)


@contextmanager
def _no_proxy_of_nonsense(redact: Redactor) -> Generator[None]:
    """What the environment says of proxies and certificates may be nonsense."""
    try:
        yield
    except (ValueError, ImportError, OSError, httpx2.InvalidURL) as error:
        raise InputError(
            f"the proxy or the certificates that the environment names cannot be used "
            f"({redact.said(type(error).__name__)}); mend or unset HTTP_PROXY, HTTPS_PROXY, "
            f"ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"
        ) from error
