"""Ctrl-C while the library works."""

from __future__ import annotations

import threading
from typing import Callable, List, TypeVar

Result = TypeVar("Result")


def interruptible(work: Callable[[], Result], cancel: Callable[[], None]) -> Result:
    """work(), so that signal handlers run while it does.

    Python runs them in the main thread, between its instructions: not while that thread is inside the library. So the
    main thread waits, and another one works. What a handler raises (KeyboardInterrupt, most often) is raised here after
    cancel() has ended the work. Other threads get no signals and work themselves.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    results: List[Result] = []
    failures: List[BaseException] = []
    begun: List[bool] = []
    abandoned: List[bool] = []
    done = threading.Semaphore(0)

    def run() -> None:
        begun.append(True)
        try:
            if not abandoned:
                results.append(work())
        except BaseException as failure:
            failures.append(failure)
        finally:
            done.release()

    try:
        threading.Thread(target=run, name="glimpse", daemon=True).start()
        done.acquire()
    except BaseException:
        # Also from within start(), which does not tell whether there is a thread. One that begins from now on does
        # nothing; one that has begun must end before what it works on goes.
        _end(begun, abandoned, done, cancel)
        raise
    if failures:
        try:
            raise failures[0]
        finally:
            failures.clear()  # a traceback refers to this frame
    return results[0]


def _end(begun: List[bool], abandoned: List[bool], done: threading.Semaphore, cancel: Callable[[], None]) -> None:
    while True:
        try:
            abandoned.append(True)
            while begun and not done.acquire(timeout=0.01):
                cancel()
            return
        except BaseException:  # a second Ctrl-C: the first is on its way already
            pass
