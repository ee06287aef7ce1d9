"""Answers that wait at the same moment: searched together in a thread, each given to who asked, and failing alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sensorium.answer import Several
from sensorium.errors import RecipeError
from sensorium.rank.query import Ranking
from sensorium.serve import together as module
from sensorium.serve.together import MOST, Asked, Busy, Together
from sensorium.stages import listened, mark, unheard


class Numbers:
    """Stands for an engine and its cells: finds the number that is wished; notes how many asked together, and in which thread."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        self.threads: set[int] = set()
        self.swift, self.fails = True, False
        self.hold = threading.Event()
        self.hold.set()

    def begin(self, asked: Sequence[Asked]) -> Several:
        return Several([(context, self.steps(wishes["k"])) for wishes, context in asked])

    def steps(self, k: int) -> Generator[Any, int, Ranking]:
        assert threading.current_thread() is threading.main_thread()
        if k % 7 == 3:
            raise RecipeError(f"k {k}")
        found = k if k % 7 == 4 else (yield self, "model", k)  # who is known by heart asks nothing
        mark("score")
        return Ranking((), "", found)

    def search(self, askers: list[int]) -> list[int]:
        self.hold.wait(10)
        if self.fails:
            raise OSError("the disk is gone")
        self.groups.append(len(askers))
        self.threads.add(threading.get_ident())
        return askers


def run(work: Any) -> Any:
    numbers = Numbers()
    with ThreadPoolExecutor(2) as threads:

        async def inside() -> Any:
            return await asyncio.wait_for(
                work(numbers, Together(numbers.begin, threads, lambda: numbers.swift)), timeout=20
            )

        return numbers, asyncio.run(inside())


def test_one_alone_is_answered_at_once_where_that_is_swift() -> None:
    async def work(numbers: Numbers, together: Together) -> Any:
        first = await together.answer({"k": 1})
        assert numbers.threads == {threading.get_ident()}
        numbers.swift = False
        return first.candidates, (await together.answer({"k": 2})).candidates

    numbers, told = run(work)
    assert told == (1, 2)
    assert len(numbers.threads) == 2


def test_many_are_searched_together_in_threads_and_each_gets_its_own() -> None:
    async def one(together: Together, k: int) -> Any:
        marks, token = listened()
        try:
            return (await together.answer({"k": k})).candidates, [name for name, _ in marks]
        except RecipeError as error:
            return str(error), ["parse", "score"]
        finally:
            unheard(token)

    async def work(numbers: Numbers, together: Together) -> Any:
        return await asyncio.gather(*(one(together, k) for k in range(70)))

    numbers, told = run(work)
    assert [answer for answer, _ in told] == [f"k {k}" if k % 7 == 3 else k for k in range(70)]
    assert all(marks == ["parse", "score"] for _, marks in told)  # heard by who asked, and by nobody else
    assert sum(numbers.groups) == 50
    assert 1 < max(numbers.groups) <= MOST
    assert threading.get_ident() not in numbers.threads


def test_whoever_is_gone_keeps_nobody_waiting() -> None:
    async def work(numbers: Numbers, together: Together) -> Any:
        numbers.hold.clear()
        asked = [asyncio.create_task(together.answer({"k": k})) for k in (1, 2, 5, 6)]
        await asyncio.sleep(0.05)  # they are with the threads
        asked[1].cancel()
        numbers.hold.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    _, told = run(work)
    assert isinstance(told[1], asyncio.CancelledError)
    assert [answer.candidates for answer in (told[0], *told[2:])] == [1, 5, 6]


def test_beyond_what_may_wait_a_request_is_sent_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUE", 5)

    async def work(numbers: Numbers, together: Together) -> Any:
        told = await asyncio.gather(*(together.answer({"k": 1}) for _ in range(9)), return_exceptions=True)
        return told, (await together.answer({"k": 2})).candidates

    _, (told, again) = run(work)
    assert sum(isinstance(answer, Busy) for answer in told) == 4
    assert again == 2


def test_a_failure_of_all_is_told_to_each_and_the_next_are_answered() -> None:
    async def work(numbers: Numbers, together: Together) -> Any:
        numbers.fails = True
        failed = await asyncio.gather(*(together.answer({"k": 1}) for _ in range(40)), return_exceptions=True)
        failed += await asyncio.gather(together.answer({"k": 1}), return_exceptions=True)
        numbers.fails = False
        well = await asyncio.gather(*(together.answer({"k": k}) for k in (1, 2, 5)))
        together._threads.shutdown()
        closed = await asyncio.gather(*(together.answer({"k": 1}) for _ in range(3)), return_exceptions=True)
        return failed, [answer.candidates for answer in well], closed

    _, (failed, well, closed) = run(work)
    assert [type(error) for error in failed] == [OSError] * 41
    assert well == [1, 2, 5]
    assert [type(error) for error in closed] == [RuntimeError] * 3
