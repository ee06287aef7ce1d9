"""Text by an OpenAI-compatible endpoint: batches, retries that honour Retry-After, and a cap on what may be spent."""

from __future__ import annotations

import email.utils
import functools
import http.client
import json
import os
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sensorium.arrays import Floats
from sensorium.data.content import TEXT, Content, Text
from sensorium.encode.text import words
from sensorium.errors import MediaError, RemoteError

AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)  # answers that another try may mend
MOST_BYTES = 256 << 20  # of one answer
LONGEST_PAUSE_SECONDS = 60.0


class Spending:
    """Tokens used, and the most that may be."""

    def __init__(self, most: int) -> None:
        self.most, self.used = most, 0
        self._lock = threading.Lock()

    def reserve(self, tokens: int, where: str) -> None:
        """Count tokens before they are sent. **Raises** RemoteError where the cap would be passed."""
        with self._lock:
            if self.used + tokens > self.most:
                raise RemoteError(
                    f"{where}: {self.used:,} tokens used, about {tokens:,} more would pass the cap of {self.most:,}; "
                    "what is encoded is kept; raise encode.text.most_tokens to go on"
                )
            self.used += tokens

    def correct(self, guessed: int, real: int) -> None:
        """Put the number that the endpoint reports in the place of the guess."""
        with self._lock:
            self.used += real - guessed


@dataclass(frozen=True)
class RemoteTextEncoder:
    """`POST base_url/embeddings` of any OpenAI-compatible service: text → (D,).

    The address comes from `base_url` or the variable OPENAI_BASE_URL, the key from the variable named by `key_variable`;
    a key goes over https or to this machine only. `most_tokens` caps what one encoder may spend in its life, reckoned
    before each request (four bytes a token) and corrected by the answer.

    **Raises** RemoteError when the service fails `tries` times, answers nonsense, or the cap is reached; vectors that
    came before are in the cache.
    """

    model: str
    base_url: str = ""
    key_variable: str = "OPENAI_API_KEY"
    dimensions: int = 0  # 0: as many as the model gives
    batch: int = 64
    batch_tokens: int = 100_000
    most_tokens: int = 5_000_000
    characters: int = 8000
    tries: int = 6
    timeout_seconds: float = 30.0
    modality: ClassVar[str] = TEXT

    @functools.cached_property
    def size(self) -> int:
        return self.dimensions or int(self.encode([Text((("text", "size"),))]).shape[1])

    @property
    def fingerprint(self) -> str:
        return f"remote/{self._address}/{self.model}/{self.dimensions}/{self.characters}/1"

    def encode(self, contents: Sequence[Content]) -> Floats:
        rows = [row for row in self.stream(contents) if not isinstance(row, MediaError)]
        return np.stack(rows) if rows else np.zeros((0, self.size), np.float32)

    def stream(self, contents: Sequence[Content]) -> Iterator[Floats | MediaError]:
        """The vector of each text, in order, a batch at a time: what came before a failure is kept."""
        for batch in self._batches([words(content)[: self.characters] or " " for content in contents]):
            yield from self._ask(batch)

    @functools.cached_property
    def spending(self) -> Spending:
        """What this encoder has used."""
        return Spending(self.most_tokens)

    @functools.cached_property
    def _address(self) -> str:
        found = (self.base_url or os.environ.get("OPENAI_BASE_URL", "")).rstrip("/")
        parts = urllib.parse.urlsplit(found)
        if parts.username or parts.password:
            raise RemoteError(f"encode.text: base_url holds a password; put the key into {self.key_variable}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RemoteError(f"encode.text: base_url {found!r} is no http address; set it, or OPENAI_BASE_URL")
        if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise RemoteError(f"encode.text: base_url {found!r} would send the key in the clear; use https")
        return found

    def _batches(self, texts: list[str]) -> Iterator[list[str]]:
        batch: list[str] = []
        tokens = 0
        for text in texts:
            if batch and (len(batch) == self.batch or tokens + _tokens(text) > self.batch_tokens):
                yield batch
                batch, tokens = [], 0
            batch.append(text)
            tokens += _tokens(text)
        if batch:
            yield batch

    def _ask(self, texts: list[str]) -> Floats:
        body: dict[str, Any] = {"model": self.model, "input": texts, "encoding_format": "float"}
        if self.dimensions:
            body["dimensions"] = self.dimensions
        guess = sum(map(_tokens, texts))
        self.spending.reserve(guess, self._address)
        answer = self._send(json.dumps(body).encode())
        usage = answer.get("usage")
        used = usage.get("total_tokens") if isinstance(usage, dict) else None
        if isinstance(used, int) and used >= 0:
            self.spending.correct(guess, used)
        return self._vectors(answer, len(texts))

    def _vectors(self, answer: dict[str, Any], count: int) -> Floats:
        try:
            entries = sorted(answer["data"], key=lambda entry: entry["index"])
            if [entry["index"] for entry in entries] != list(range(count)):
                raise ValueError
            with np.errstate(over="ignore"):
                values = np.array([entry["embedding"] for entry in entries], np.float32)
            if values.ndim != 2 or values.shape[1] == 0 or not np.isfinite(values).all():
                raise ValueError
        except (KeyError, TypeError, ValueError, OverflowError):
            raise RemoteError(
                f"{self._address}: the answer does not hold one finite vector for each of {count} texts; "
                f"is it an embeddings endpoint, and {self.model!r} an embeddings model?"
            ) from None
        # `size` asks for a vector where it is not known; the first answer settles it then.
        wanted = self.dimensions or self.__dict__.setdefault("_found", values.shape[1])
        if values.shape[1] != wanted:
            raise RemoteError(
                f"{self._address}: a vector of {values.shape[1]} numbers where {wanted} are wanted; "
                f"can {self.model!r} give that many (dimensions), and is it one model?"
            )
        return values

    def _send(self, body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        key = os.environ.get(self.key_variable, "").strip()
        if key:
            if not (key.isascii() and key.isprintable()):
                raise RemoteError(f"encode.text: {self.key_variable} holds characters that no key has; copy it again")
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self._address}/embeddings", body, headers, method="POST")
        reason = ""
        for attempt in range(self.tries):
            wait = None
            try:
                with _OPENER.open(request, timeout=self.timeout_seconds) as answer:
                    raw = answer.read(MOST_BYTES + 1)
                if len(raw) > MOST_BYTES:
                    raise RemoteError(f"{self._address}: an answer of more than {MOST_BYTES >> 20} MiB")
                found = json.loads(raw)
                if isinstance(found, dict):
                    return found
                reason = "an answer that is no JSON object"
            except urllib.error.HTTPError as error:
                with error:
                    reason = f"HTTP {error.code}"
                    if error.code not in AGAIN:
                        said = f"; is {self.key_variable} set and valid?"
                        if error.code not in (401, 403):  # those may repeat the key
                            said = _said(error, key)
                        raise RemoteError(f"{self._address}: {reason}{said}") from None
                    wait = retry_after(error.headers.get("Retry-After"))
            except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
                reason = str(getattr(error, "reason", "") or error or type(error).__name__)
            if attempt + 1 < self.tries:
                pause(backoff(attempt, wait))
        raise RemoteError(f"{self._address}: {reason}, after {self.tries} tries; what is encoded is kept, run again")


def backoff(attempt: int, asked: float | None) -> float:
    """Seconds to wait: as asked, or half to all of 0.5 · 2^attempt; never more than a minute."""
    jitter = random.SystemRandom().uniform(0.5, 1.0)
    wait = 0.5 * 2**attempt * jitter if asked is None else asked + 0.1 * jitter
    return min(wait, LONGEST_PAUSE_SECONDS)


def retry_after(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date.

    >>> retry_after("3"), retry_after("soon"), retry_after(None)
    (3.0, None, None)
    """
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


def _said(answer: urllib.error.HTTPError, key: str) -> str:
    """What a refusal says of its reason, short, in one line, never the key."""
    try:
        found = json.loads(answer.read(1 << 16))
        told = found.get("error", found)
        told = str(told.get("message", "") if isinstance(told, dict) else told)
    except (OSError, http.client.HTTPException, ValueError, AttributeError, RecursionError):
        return ""
    told = " ".join(told.replace(key or "\n", "…").split())
    return f": {told[:160]}" if told.isprintable() and told else ""


pause = time.sleep


def _tokens(text: str) -> int:
    return len(text.encode()) // 4 + 1


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: the key is for the address that was named."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)
