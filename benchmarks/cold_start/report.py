"""Renders the section of the report, and computes the targets."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.cold_start.folders import FUNCTIONS
from benchmarks.cold_start.measure import Measured
from benchmarks.cold_start.warm import PROCESSES, Warm
from benchmarks.target import Target, at_most, table

# Maximum cold start of each function, as a multiple of the bare handler's.
OF_BARE = {"poll": 10.0, "follow": 10.0, "start": 11.0, "notify": 10.5, "api": 10.0, "deliver": 11.0}
OF_NAIVE = 0.7
# Maximum memory as a multiple. Botocore reads all its endpoints: docs/decisions/0023.
MEMORY = 4.0
OVERHEAD = 1.6
LAYER_MB = 8.0
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Findings:
    """All measurements."""

    measured: Measured
    overhead: Warm
    polls: Warm
    follows: Warm
    layer_bytes: int

    @property
    def memory(self) -> tuple[float, str]:
        """Maximum memory of a function as a multiple of the bare handler's, and its name."""
        bare = self.measured.bare.peak_kib
        return max((medians.peak_kib / bare, name) for name, medians in self.measured.ours.items())


def targets(findings: Findings) -> Iterator[Target]:
    """Yield the targets with their results."""
    measured, bare = findings.measured, findings.measured.bare.cold_s
    for name in FUNCTIONS:
        ours, naive = measured.ours[name].cold_s, measured.naive[name].cold_s
        yield at_most(f"cold start, {name}, against bare:", ours / bare, OF_BARE[name])
        yield at_most(f"cold start, {name}, against naive:", ours / naive, OF_NAIVE)
    most, name = findings.memory
    yield at_most(f"resident memory of {name} (the maximum), against bare:", most, MEMORY)
    yield at_most("a warm poll, against a bare GET:", findings.overhead.overhead, OVERHEAD)
    polls, follows = findings.polls, findings.follows
    yield Target(
        "one connection for all polls of a container",
        polls.connections == 1,
        f"{polls.connections} for {polls.invocations}",
    )
    yield Target(
        "one connection for all status requests of follow, and one for each stream",
        follows.connections == follows.invocations + 1,
        f"{follows.connections} for {follows.invocations} follows",
    )
    contexts = max(polls.contexts, follows.contexts)
    yield Target("one TLS context for all connections", contexts == 1, str(contexts))
    yield at_most("the layer, unzipped:", findings.layer_bytes / _MB, LAYER_MB, " MB")


def render(findings: Findings, results: list[Target]) -> str:
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
    bare_text = f"A bare handler took {bare.cold_s * 1000:.0f} ms and {bare.peak_kib / 1024:.1f} MiB."
    warm = (
        f"A poll of a warm function took {overhead.overhead:.2f} times a bare GET of the same document with urllib3 "
        f"({overhead.ours_ms - overhead.bare_ms:.2f} ms more). This is the median process of {PROCESSES}, with reused "
        "connections to the simulated Waterflai on the same machine."
    )
    columns = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(
        [_introduction(measured.rounds), *columns, *rows, "", bare_text, "", warm, "", *table(results), ""]
    )


def _introduction(rounds: int) -> str:
    return f"""# Cold start

`python -m benchmarks.cold_start`: measures the time from the start of a process to its first response, with the
runtime client of Lambda and a local Runtime API. The numbers are medians of {rounds} rounds. Each round runs every
build once.

- Each function is built by `sam build`. Its folder, the layer and boto3 are on the Python path as in Lambda. The time
  includes the first read of the key and all other calls. AWS and Waterflai are loopback servers without delay and
  without TLS.
- **bare** returns `{{}}`. **naive** does the same work with boto3's resources, requests, pydantic models, Powertools'
  Logger, Tracer, Metrics, Parameters, Parser and validating resolver, all clients at import, from one shared module.
  It is measured without bytecode, as `sam build` builds it, and **compiled**, which leaves the cost of its imports.
- **memory** is the peak resident memory.
- **7 % CPU** is the CPU of a function with 128 MB after its start. The process loads with a whole CPU. Then SIGSTOP and
  SIGCONT limit it to 7 % of each 20 ms.
"""


def _row(name: str, measured: Measured) -> str:
    bare, ours, naive, compiled = (
        measured.bare,
        measured.ours[name],
        measured.naive[name],
        measured.compiled[name],
    )
    ratios = (
        ours.cold_s / bare.cold_s,
        ours.cold_s / naive.cold_s,
        ours.cold_s / compiled.cold_s,
        ours.cpu_s / bare.cpu_s,
        naive.cold_s / bare.cold_s,
        compiled.cold_s / bare.cold_s,
        ours.peak_kib / bare.peak_kib,
        naive.peak_kib / bare.peak_kib,
    )
    cells = " | ".join(f"{each:.2f}" for each in ratios)
    return f"| {name} | {cells} | {ours.throttled_s:.2f} s | {naive.throttled_s:.2f} s |"
