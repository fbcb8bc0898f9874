"""Worker processes that do not outlive the process that started them."""

import os
import threading
import time


def end_with_parent(every: float = 1.0) -> None:
    """Called in a worker as it starts: end it soon after its parent is gone, for a killed parent cannot tell its workers.

    Args:
        every: how often to look, s.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
