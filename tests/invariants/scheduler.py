"""Runs calls of several functions step by step, one at a time, so that their order is a choice of the history.

The functions are synchronous code. Each call therefore has a thread, which waits for a lock wherever it pauses.
"""

import threading
from collections.abc import Callable


class Crash(BaseException):
    """A function is killed in the middle of a call. No code under test may catch it."""


class Task:
    """A call of a function. It runs from one pause to the next."""

    def __init__(self, name: str, call: Callable[[], object]) -> None:
        self.name = name
        self.call = call
        self.done = False
        self.result: object = None
        self.error: BaseException | None = None
        self.worker: _Worker | None = None


class _Worker:
    """A thread that runs one task after another. Threads are reused: starting one takes longer than most histories."""

    def __init__(self, scheduler: "Scheduler") -> None:
        self.may_run = threading.Lock()
        self.may_run.acquire()
        self.task: Task | None = None
        self._scheduler = scheduler
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            self.may_run.acquire()
            task = self.task
            if task is None:
                return
            try:
                task.result = task.call()
            except BaseException as error:  # noqa: BLE001 - History reads it, a Crash too
                task.error = error
            task.done = True
            self._scheduler.paused.release()


class Scheduler:
    """Runs one task at a time, while the caller of `step` waits."""

    def __init__(self) -> None:
        self.paused = threading.Lock()
        self.paused.acquire()
        self.current: Task | None = None
        self._idle: list[_Worker] = []

    def step(self, task: Task) -> None:
        """Run a task until it pauses or ends."""
        if task.worker is None:
            task.worker = self._idle.pop() if self._idle else _Worker(self)
            task.worker.task = task
        self.current = task
        task.worker.may_run.release()
        self.paused.acquire()
        self.current = None
        if task.done:
            self._idle.append(task.worker)

    def pause(self) -> None:
        """Return to the caller of `step`. The current task calls this and continues with its next step."""
        task = self.current
        assert task is not None
        assert task.worker is not None
        self.paused.release()
        task.worker.may_run.acquire()

    def close(self) -> None:
        """End the threads."""
        for worker in self._idle:
            worker.task = None
            worker.may_run.release()
        self._idle.clear()
