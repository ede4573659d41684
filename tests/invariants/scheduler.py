"""Runs calls of several functions, one at a time, so that their order is a choice of the history.

The functions are synchronous code. A call that pauses while another one continues therefore needs its own thread. Only
one thread runs at any time. The others wait for their locks.
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
        self.began_at = 0
        """How many calls to other systems the history had made before."""
        self.done = False
        self.result: object = None
        self.error: BaseException | None = None
        self.thread: _Thread | None = None


class _Thread:
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
            if self.task is None:
                return
            self._scheduler.run_tasks(self, self.task)


class Scheduler:
    """Runs tasks in the order that a history chooses.

    The thread that has just paused or ended a task chooses the next one. To change threads takes longer than most
    steps, so it does that only for a task that has paused in another thread, or while its own task is paused.
    """

    def __init__(self) -> None:
        self.current: Task | None = None
        self._next_task: Callable[[], Task | None] = lambda: None
        self._error: BaseException | None = None
        self._finished = threading.Lock()
        self._finished.acquire()
        self._idle: list[_Thread] = []

    def run(self, next_task: Callable[[], Task | None]) -> None:
        """Run the tasks that `next_task` returns, each to its next pause, until it returns None.

        Raises what `next_task` raises.
        """
        self._next_task, self._error = next_task, None
        self._continue_elsewhere(self._choose())
        self._finished.acquire()
        if self._error is not None:
            raise self._error

    def pause(self) -> None:
        """Run other tasks, until the current one is chosen again. The current task calls this."""
        task = self.current
        assert task is not None
        assert task.thread is not None
        chosen = self._choose()
        if chosen is task:
            self.current = task
            return
        self._continue_elsewhere(chosen)
        task.thread.may_run.acquire()

    def run_tasks(self, thread: _Thread, task: Task) -> None:
        """Run a task to its end in a thread, and then each new task that is chosen next."""
        chosen: Task | None = task
        while chosen is not None and chosen.thread in {None, thread}:
            chosen.thread, self.current = thread, chosen
            try:
                chosen.result = chosen.call()
            except BaseException as error:  # noqa: BLE001 - History reads it, a Crash too
                chosen.error = error
            chosen.done = True
            chosen = self._choose()
        self._idle.append(thread)
        self._continue_elsewhere(chosen)

    def _choose(self) -> Task | None:
        self.current = None
        try:
            return self._next_task()
        except BaseException as error:  # noqa: BLE001 - `run` raises it: here it would enter the code under test
            self._error = error
            return None

    def _continue_elsewhere(self, task: Task | None) -> None:
        """Let the thread of a task run, or the caller of `run` if there is no task left."""
        if task is None:
            self._finished.release()
            return
        if task.thread is None:
            task.thread = self._idle.pop() if self._idle else _Thread(self)
            task.thread.task = task
        self.current = task
        task.thread.may_run.release()

    def close(self) -> None:
        """End the threads."""
        for thread in self._idle:
            thread.task = None
            thread.may_run.release()
        self._idle.clear()
