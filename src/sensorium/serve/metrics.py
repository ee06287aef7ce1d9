"""What the service counts and times, as Prometheus reads it.

Requests are counted by one thread (the event loop's), commits by another (the commit queue's); each number has one
writer, so nothing is locked. Labels are names of tenants, templates of routes, stages: never who asked or for what.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sensorium.stages import spent

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (.0001, .00025, .0005, .001, .0025, .005, .01, .015, .025, .05, .1, .25, .5, 1.0, 2.5, 5.0, 10.0)  # fmt: skip
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
Labels = tuple[tuple[str, str], ...]


class Histogram:
    """How often a value lay below each of some bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Counts a value. **Cost** half a microsecond."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Commits:
    """What the commit queue of one store tells: it is called with the events of a group and the seconds it took."""

    def __init__(self) -> None:
        self.events, self.failed = 0, 0
        self.sizes, self.seconds = Histogram(SIZES), Histogram()

    def __call__(self, events: int, seconds: float, stored: bool) -> None:
        self.seconds.add(seconds)
        if stored:
            self.events += events
            self.sizes.add(events)
        else:
            self.failed += 1


class Gauge(NamedTuple):
    """A number that stands as it is when it is asked for."""

    name: str
    told: str
    value: float
    labels: Labels = ()


class Route(NamedTuple):
    """What requests are told apart by."""

    tenant: str
    method: str
    template: str  # of its path, without what stands in it


class Counted:
    """What is known of one route."""

    __slots__ = ("stages", "statuses", "took")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.took = Histogram()
        self.stages: dict[str, Histogram] = {}


@dataclass
class Metrics:
    """Of one process."""

    routes: dict[Route, Counted] = field(default_factory=dict)

    def answered(
        self, route: Route, status: int, begin: float, end: float, marks: Iterable[tuple[str, float]] = ()
    ) -> None:
        """Counts one request. **Cost** some three microseconds."""
        counted = self.routes.get(route)
        if counted is None:
            counted = self.routes[route] = Counted()
        counted.statuses[status] = counted.statuses.get(status, 0) + 1
        counted.took.add(end - begin)
        for stage, seconds in spent(begin, marks).items():
            heard = counted.stages.get(stage)
            if heard is None:
                heard = counted.stages[stage] = Histogram()
            heard.add(seconds)

    def text(
        self, stores: Mapping[str, Commits], gauges: Mapping[str, Iterable[Gauge]], process: Iterable[Gauge] = ()
    ) -> str:
        """The page of these tenants; `process` says what is of no tenant."""
        lines: list[str] = []
        routes = {_route(route): counted for route, counted in self.routes.items() if route.tenant in stores}
        lines += _head("sensorium_requests_total", "counter", "Requests by route and status.")
        for labels, counted in routes.items():
            for status, count in counted.statuses.items():
                lines.append(_line("sensorium_requests_total", (*labels, ("status", str(status))), count))
        lines += _head("sensorium_request_seconds", "histogram", "From the head of a request to the end of its answer.")
        for labels, counted in routes.items():
            lines += _histogram("sensorium_request_seconds", labels, counted.took)
        lines += _head("sensorium_stage_seconds", "histogram", "Of a request, by stage.")
        for labels, counted in routes.items():
            for stage, took in counted.stages.items():
                lines += _histogram("sensorium_stage_seconds", (*labels, ("stage", stage)), took)
        lines += _stored(stores)
        named = [g._replace(labels=(("tenant", tenant), *g.labels)) for tenant, some in gauges.items() for g in some]
        for name, group in _by_name([*process, *named]).items():
            lines += _head(name, "gauge", group[0].told)
            lines += [_line(name, one.labels, one.value) for one in group]
        return "\n".join(lines) + "\n"


def _stored(stores: Mapping[str, Commits]) -> Iterator[str]:
    for name, told, number in (
        ("sensorium_events_total", "Events that were stored.", "events"),
        ("sensorium_commits_failed_total", "Groups of events that could not be stored.", "failed"),
    ):
        yield from _head(name, "counter", told)
        yield from (_line(name, (("tenant", tenant),), getattr(c, number)) for tenant, c in stores.items())
    for name, told, table in (
        ("sensorium_commit_events", "Events of one group commit.", "sizes"),
        ("sensorium_commit_seconds", "Of one group commit, its sync to disk included.", "seconds"),
    ):
        yield from _head(name, "histogram", told)
        for tenant, commits in stores.items():
            yield from _histogram(name, (("tenant", tenant),), getattr(commits, table))


def _by_name(gauges: Iterable[Gauge]) -> dict[str, list[Gauge]]:
    groups: dict[str, list[Gauge]] = {}
    for one in gauges:
        groups.setdefault(one.name, []).append(one)
    return groups


def _route(route: Route) -> Labels:
    return (("tenant", route.tenant), ("method", route.method), ("route", route.template))


def _head(name: str, kind: str, told: str) -> list[str]:
    return [f"# HELP {name} {told}", f"# TYPE {name} {kind}"]


def _histogram(name: str, labels: Labels, histogram: Histogram) -> Iterator[str]:
    below = 0
    for bound, count in zip((*histogram.bounds, "+Inf"), list(histogram.counts), strict=True):
        below += count
        yield _line(f"{name}_bucket", (*labels, ("le", str(bound))), below)
    yield _line(f"{name}_sum", labels, histogram.sum)
    yield _line(f"{name}_count", labels, below)


def _line(name: str, labels: Labels, value: float) -> str:
    words = ",".join(f'{key}="{_escaped(word)}"' for key, word in labels)
    return f"{name}{{{words}}} {value!r}" if words else f"{name} {value!r}"


def _escaped(word: str) -> str:
    """As the format wants a label's value.

    >>> _escaped('a"b')
    'a\\\\"b'
    """
    return word.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
