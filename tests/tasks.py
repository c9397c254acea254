"""Tasks for worker processes, in a module that loads neither torch nor PyAV, so that it is fast."""

import os
import signal
import time


def name(source, *, folder):
    """A task that takes a moment."""
    time.sleep(0.1)
    return {"source": source.name}


def die_or_name(source, *, folder):
    """A task that kills its worker for one clip always, and for another one the first time."""
    if source.name == "3" or (source.name == "5" and not (folder / "died").exists()):
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"source": source.name}


class Deadly:
    """Settings with which even the empty clip kills its process."""

    def __hash__(self):
        os.kill(os.getpid(), signal.SIGKILL)


def die(source, *, folder, settings):
    """A task that kills its worker."""
    os.kill(os.getpid(), signal.SIGKILL)
