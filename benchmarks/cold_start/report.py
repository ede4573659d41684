"""The section on cold starts, and the targets it is held to."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.cold_start.folders import FUNCTIONS
from benchmarks.cold_start.measure import Measured
from benchmarks.cold_start.warm import PROCESSES, Warm
from benchmarks.target import Target, at_most, table

# How many times a bare handler's start each may take.
OF_BARE = {"poll": 10.0, "follow": 10.0, "start": 11.0, "notify": 10.5, "api": 10.0}
OF_NAIVE = 0.7
# Botocore reads its own endpoints: docs/decisions/0023.
MEMORY = 4.0
OVERHEAD = 1.6
LAYER_MB = 8.0
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was measured."""

    measured: Measured
    overhead: Warm
    polls: Warm
    follows: Warm
    layer_bytes: int

    @property
    def memory(self) -> tuple[float, str]:
        """The most that a function needs of what a bare handler does, and which one."""
        bare = self.measured.bare.peak_kib
        return max((figures.peak_kib / bare, name) for name, figures in self.measured.ours.items())


def targets(findings: Findings) -> Iterator[Target]:
    """Yield what is held and what isn't."""
    measured, bare = findings.measured, findings.measured.bare.cold_s
    for name in FUNCTIONS:
        ours, naive = measured.ours[name].cold_s, measured.naive[name].cold_s
        yield at_most(f"cold start, {name}, against bare:", ours / bare, OF_BARE[name])
        yield at_most(f"cold start, {name}, against naive:", ours / naive, OF_NAIVE)
    most, name = findings.memory
    yield at_most(f"resident memory, {name} having the most, against bare:", most, MEMORY)
    yield at_most("a warm poll, against a bare GET:", findings.overhead.overhead, OVERHEAD)
    polls, follows = findings.polls, findings.follows
    yield Target(
        "one connection for all polls of a container",
        polls.connections == 1,
        f"{polls.connections} for {polls.invocations}",
    )
    yield Target(
        "one connection for all questions of followers, and one for each stream",
        follows.connections == follows.invocations + 1,
        f"{follows.connections} for {follows.invocations} follows",
    )
    contexts = max(polls.contexts, follows.contexts)
    yield Target("one TLS context for all connections", contexts == 1, str(contexts))
    yield at_most("the layer, unzipped:", findings.layer_bytes / _MB, LAYER_MB, " MB")


def render(findings: Findings, found: list[Target]) -> str:
    """Return the section in markdown."""
    measured, overhead = findings.measured, findings.overhead
    bare = measured.bare
    rows = [_row(name, measured) for name in FUNCTIONS]
    head = (
        "function",
        "times bare",
        "times naive",
        "times naive, compiled",
        "processor time, times bare",
        "naive, times bare",
        "compiled",
        "memory, times bare",
        "naive",
        "first invocation, 7 % CPU",
        "naive",
    )
    aside = f"A bare handler took {bare.cold_s * 1000:.0f} ms and {bare.peak_kib / 1024:.1f} MiB."
    warm = (
        f"Warm, a poll took {overhead.overhead:.2f} times a bare GET of the same document with urllib3 "
        f"({overhead.ours_ms - overhead.bare_ms:.2f} ms more), in one process (the middle one of {PROCESSES}), on kept "
        "connections to the simulated Waterflai on the same machine; any real one is farther away."
    )
    columns = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(
        [_introduction(measured.rounds), *columns, *rows, "", aside, "", warm, "", *table(found), ""]
    )


def _introduction(rounds: int) -> str:
    return f"""# Cold start

`python -m benchmarks.cold_start`: from the start of a process to its first answer, with Lambda's own runtime client
behind a local Runtime API. Medians of {rounds} rounds, each of which runs every build once. Ratios are of one run.

- Each function is what `sam build` makes, its folder and the layer on the path as in Lambda, with boto3 from "the
  runtime". The first read of the key, and every other call of the first answer, is in it; AWS and Waterflai are
  loopback servers that answer at once, without TLS.
- **bare** returns `{{}}`. **naive** does the same work with boto3's resources, requests, pydantic models, Powertools'
  Logger, Tracer, Metrics, Parameters, Parser and validating resolver, all clients at import, from one shared module.
  It is measured as `sam build` leaves it, without bytecode, and **compiled**: what is left is what it imports.
- **memory** is the most that was resident.
- **7 % CPU** is what 128 MB get outside of their start: the process loads with all of a CPU, then is stopped and
  continued so that it gets 7 % of each 20 ms (SIGSTOP, SIGCONT and its CPU clock; no cgroup).
"""


def _row(name: str, measured: Measured) -> str:
    bare, ours, naive, compiled = (
        measured.bare,
        measured.ours[name],
        measured.naive[name],
        measured.compiled[name],
    )
    figures = (
        ours.cold_s / bare.cold_s,
        ours.cold_s / naive.cold_s,
        ours.cold_s / compiled.cold_s,
        ours.cpu_s / bare.cpu_s,
        naive.cold_s / bare.cold_s,
        compiled.cold_s / bare.cold_s,
        ours.peak_kib / bare.peak_kib,
        naive.peak_kib / bare.peak_kib,
    )
    cells = " | ".join(f"{each:.2f}" for each in figures)
    return f"| {name} | {cells} | {ours.throttled_s:.2f} s | {naive.throttled_s:.2f} s |"
