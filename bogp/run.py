"""Runs one notebook with checked parameters: ``python -m bogp.run NOTEBOOK OUT -f FILE -y YAML``.

The work is in ``workflow/notebook.py``.
"""

import os
import sys

from bogp.workflow.notebook import main

if __name__ == "__main__":
    # Nobody sees a bar move inside a kernel, and it would stay in the executed copy.
    os.environ["TQDM_DISABLE"] = "1"
    sys.exit(main())
