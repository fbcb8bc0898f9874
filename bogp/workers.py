"""Worker processes that do not outlive the process that started them."""

import os
import threading
import time
from typing import Any


def end_with_parent(parent: int, every: float = 1.0) -> None:
    """Called in a worker as it starts: end it soon after its parent is gone, for a killed parent cannot tell its workers.

    Args:
        parent: process id. The worker cannot ask for it, since its parent may be gone by then.
        every: how often to look, s.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def ending_with_us() -> dict[str, Any]:
    """What ``joblib.Parallel`` is given so that its workers end with this process."""
    return {"initializer": end_with_parent, "initargs": (os.getpid(),)}
