"""Worker processes that do not outlive the process that started them, and leave the progress bars to it."""

import os
import threading
import time
from typing import Any


def serve(parent: int, every: float = 1.0) -> None:
    """Called in a worker as it starts: it shows no bars, which would write over each other, and ends soon after its parent is gone, for a killed parent
    cannot tell its workers.

    Args:
        parent: process id. The worker cannot ask for it, since its parent may be gone by then.
        every: how often to look, s.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os._exit(1)

    os.environ["TQDM_DISABLE"] = "1"
    threading.Thread(target=watch, daemon=True).start()


def serving_us() -> dict[str, Any]:
    """What ``joblib.Parallel`` is given so that its workers ``serve`` this process."""
    return {"initializer": serve, "initargs": (os.getpid(),)}
