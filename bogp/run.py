"""Runs one notebook with checked parameters: ``python -m bogp.run NOTEBOOK OUT -f FILE -y YAML``; the work is in ``workflow/notebook.py``."""

import sys

from bogp.workflow.notebook import main

if __name__ == "__main__":
    sys.exit(main())
