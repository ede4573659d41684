"""Tasks that run one at a time and stop where they are told to: real threads, one baton, no race of their own.

The code under test is plain synchronous code, so only a thread of its own lets it stop in the middle of a call.
"""

import threading
from collections.abc import Callable


class Crash(BaseException):
    """The end of a function in the middle of a line: a killed container. Nothing of ours may catch it."""


class Task:
    """A call that goes on each time it is stepped, until it pauses or ends."""

    def __init__(self, name: str, call: Callable[[], object]) -> None:
        self.name = name
        self.call = call
        self.done = False
        self.result: object = None
        self.error: BaseException | None = None
        self.worker: _Worker | None = None


class _Worker:
    """A thread that runs one task after another; making one takes longer than most histories."""

    def __init__(self, scheduler: "Scheduler") -> None:
        self.go = threading.Lock()
        self.go.acquire()
        self.task: Task | None = None
        self._scheduler = scheduler
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            self.go.acquire()
            task = self.task
            if task is None:
                return
            try:
                task.result = task.call()
            except BaseException as error:  # noqa: BLE001 - a crash included: the caller of step looks
                task.error = error
            task.done = True
            self._scheduler.back.release()


class Scheduler:
    """Runs tasks. Only the one that was stepped last runs, and the caller of step waits meanwhile."""

    def __init__(self) -> None:
        self.back = threading.Lock()
        self.back.acquire()
        self.current: Task | None = None
        self._idle: list[_Worker] = []

    def step(self, task: Task) -> None:
        """Let a task go on until it pauses or is done."""
        if task.worker is None:
            task.worker = self._idle.pop() if self._idle else _Worker(self)
            task.worker.task = task
        self.current = task
        task.worker.go.release()
        self.back.acquire()
        self.current = None
        if task.done:
            self._idle.append(task.worker)

    def pause(self) -> None:
        """Hand the baton back; called from within a task."""
        task = self.current
        assert task is not None
        assert task.worker is not None
        self.back.release()
        task.worker.go.acquire()

    def close(self) -> None:
        """Let the threads go."""
        for worker in self._idle:
            worker.task = None
            worker.go.release()
        self._idle.clear()
