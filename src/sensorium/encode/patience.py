"""Encoders that may hang or be missing, where somebody waits for the rest: what they do not give in time is absent.

A call runs in a thread that can be left behind. An encoder that was left behind is not called again before it has come
back, so that no more than one thread of each is ever lost.
"""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sensorium.arrays import Floats
from sensorium.data.content import Content
from sensorium.data.vectors import Vectors
from sensorium.encode.encoder import Encoder, Only
from sensorium.encode.pool import Passing
from sensorium.encode.streams import Streams
from sensorium.errors import DataError, MediaError, MissingExtra, RemoteError, SensoriumError

T = TypeVar("T")
_END = object()


class Patience:
    """So many seconds a call (of a stream: for each vector), loading the model included.

    `lacking` names the modalities whose encoder failed or did not answer since `guarded` was called last.
    """

    def __init__(self, seconds: float, warm: dict[Encoder, Encoder] | None = None) -> None:
        self.seconds = seconds
        self._warm = {} if warm is None else warm  # one of each kind and settings, so that a model is loaded once
        self.lacking: dict[str, str] = {}  # modality → why
        self._left: dict[str, threading.Thread] = {}

    def guarded(self, encoders: Mapping[str, Encoder], known: Mapping[str, Vectors] | None = None) -> Only:
        """The encoders, guarded, and no others; those that only rearrange numbers are left as they are.

        `known`: vectors of before, from which size and fingerprint are told where the encoder cannot tell them; without
        them that is an error.
        """
        self.lacking = {}
        known = known or {}
        return Only(
            (
                modality,
                encoder
                if getattr(encoder, "uncached", False)
                else (_Stream if isinstance(encoder, Streams) else _Guarded)(
                    self._loaded(encoder), modality, self, known.get(modality)
                ),
            )
            for modality, encoder in encoders.items()
        )

    def _loaded(self, encoder: Encoder) -> Encoder:
        """The one of the same settings that was used before, its model in memory."""
        try:
            return self._warm.setdefault(encoder, encoder)
        except TypeError:  # its settings cannot be compared
            return encoder

    def asked(self, modality: str, work: Callable[[], T]) -> T:
        """What the work gives. **Raises** what it raises of contents, and Passing for all else and where time is over."""
        answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def run() -> None:
            try:
                answers.put((work(), None))
            except BaseException as error:
                answers.put((None, error))

        self.check(modality)
        thread = self.started(modality, run)
        try:
            value, error = answers.get(timeout=self.seconds)
        except queue.Empty:
            raise self.late(modality, thread) from None
        if error is not None:
            raise self.told(modality, error) from None
        return value  # type: ignore[return-value]

    def check(self, modality: str) -> None:
        """**Raises** Passing where there is no use in asking now."""
        left = self._left.get(modality)
        if left is not None and left.is_alive():
            self.lacking[modality] = f"the {modality} encoder does not answer"
        if modality in self.lacking:
            raise Passing(self.lacking[modality])

    def started(self, modality: str, run: Callable[[], None]) -> threading.Thread:
        """A thread that can be left behind: the process ends without it."""
        thread = threading.Thread(target=run, name=f"encode {modality}", daemon=True)
        thread.start()
        return thread

    def late(self, modality: str, thread: threading.Thread) -> Passing:
        """The encoder is left behind."""
        self._left[modality] = thread
        self.lacking[modality] = f"the {modality} encoder does not answer"
        return Passing(self.lacking[modality])

    def told(self, modality: str, error: BaseException) -> SensoriumError:
        """An error of an encoder: of the content, or of the encoder itself, which is not asked again in this round."""
        if isinstance(error, MediaError | DataError):
            return error
        why = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, MissingExtra | RemoteError | OSError | SensoriumError):
            self.lacking[modality] = f"the {modality} encoder cannot be used: {why}"
            return Passing(self.lacking[modality])
        return Passing(f"the {modality} encoder fails with this ({type(error).__name__}: {why})")


class _Guarded:
    """An encoder that is asked with patience; all else is its own."""

    def __init__(self, encoder: Encoder, modality: str, patience: Patience, known: Vectors | None) -> None:
        self._encoder, self._name, self._patience, self._known = encoder, modality, patience, known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    @property
    def size(self) -> int:
        if self._known is not None:
            return self._known.size
        return self._patience.asked(self._name, lambda: self._encoder.size)

    @functools.cached_property
    def fingerprint(self) -> str:
        try:
            return self._patience.asked(self._name, lambda: self._encoder.fingerprint)
        except SensoriumError:
            if self._known is None:
                raise
            return self._known.source

    def encode(self, contents: Sequence[Content]) -> Floats:
        made = self._patience.asked(self._name, lambda: self._encoder.encode(contents))
        if self._known is not None and made.shape[1] != self._known.size:
            raise DataError(f"encode.{self._name}: gives {made.shape[1]} numbers where {self._known.size} are kept")
        return made


class _Stream(_Guarded):
    """The same of an encoder that streams: what did not come in time is refused, and all after it."""

    def stream(self, contents: Sequence[Content]) -> Iterator[Floats | MediaError]:
        patience, name = self._patience, self._name
        made: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stop = threading.Event()

        def run() -> None:
            try:
                for vector in self._encoder.stream(contents):  # type: ignore[attr-defined]
                    made.put(vector)
                    if stop.is_set():
                        return
                made.put(_END)
            except BaseException as error:
                made.put(patience.told(name, error))

        try:
            patience.check(name)
            thread = patience.started(name, run)
        except Passing as away:
            yield from [away] * len(contents)
            return
        done = 0
        try:
            while done < len(contents):
                try:
                    one = made.get(timeout=patience.seconds)
                except queue.Empty:
                    one = patience.late(name, thread)
                if isinstance(one, SensoriumError) and name in patience.lacking:
                    refusal = one if isinstance(one, MediaError) else Passing(str(one))
                    yield from [refusal] * (len(contents) - done)
                    return
                if one is _END:
                    return
                done += 1
                yield one
        finally:
            stop.set()
