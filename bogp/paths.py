"""Where data, results and figures live; nothing else in the package builds a path.

``BOGP_HOME`` is the folder that holds ``data/`` and ``figures/`` (default: the checkout that the
package is imported from, else ``~/bogp``). ``BOGP_DATA_DIR`` is a folder with data sets that you
already have. ``BOGP_STORE`` is the SQLite file that evaluations are kept in (default: under
``data/``); on a cluster it is one for each job, on the node's own disk.
"""

import os
from pathlib import Path

from bogp.errors import InvalidInput


def home() -> Path:
    """The folder that holds ``data/`` and ``figures/``."""
    value = os.environ.get("BOGP_HOME")
    return Path(value).expanduser().resolve() if value else checkout() or Path.home() / "bogp"


def checkout() -> Path | None:
    """The folder that the package was cloned into, or None where it is installed without its
    repository.
    """
    folder = Path(__file__).resolve().parent.parent
    return folder if (folder / "pyproject.toml").exists() else None


def data_dir() -> Path | None:
    """The user's own folder of data sets (``BOGP_DATA_DIR``), or None where it is not set.

    Raises:
        InvalidInput: the variable names something that is not a folder.
    """
    value = os.environ.get("BOGP_DATA_DIR")
    if not value:
        return None
    folder = Path(value).expanduser()
    # A relative value is meant from where the command was typed; notebooks run elsewhere, so the
    # home folder is tried too.
    for candidate in [folder] if folder.is_absolute() else [Path.cwd() / folder, home() / folder]:
        if candidate.is_dir():
            return candidate.resolve()
    raise InvalidInput(
        f"BOGP_DATA_DIR is {value!r}, which is not a folder. Set it to the folder that holds "
        "your data sets, or unset it."
    )


def cache_dir() -> Path:
    """Where downloaded data sets are kept (``~/.cache/bogp`` on Linux; follows
    ``XDG_CACHE_HOME``).
    """
    import pooch

    return Path(pooch.os_cache("bogp"))


def store_path() -> Path:
    """The SQLite file that every evaluation is written to first (``BOGP_STORE``, if it is set)."""
    value = os.environ.get("BOGP_STORE")
    return Path(value).expanduser().resolve() if value else home() / "data" / "evaluations.sqlite"


def evaluations_dir(run: str) -> Path:
    """Where the evaluations behind one run are exported as Parquet, to be committed."""
    return home() / "data" / "evaluations" / _simple(run)


def results_dir(run: str) -> Path:
    """Tables of one run (``smoke``, ``paper`` or a name of yours), each a CSV with its provenance
    beside it.
    """
    return home() / "data" / "results" / _simple(run)


def weights_dir() -> Path:
    """Where weights of trained networks lie. They belong to the code: with a checkout, below it,
    whatever ``BOGP_HOME`` says.
    """
    return (checkout() or home()) / "data" / "weights"


def figures_dir(run: str) -> Path:
    """Figures of one run, as PDF and PNG."""
    return home() / "figures" / _simple(run)


def failed_dir(run: str) -> Path:
    """Where a batch run leaves the executed copies of notebooks that failed, each with its
    error.
    """
    return home() / "build" / "failed" / _simple(run)


def database_dir(name: str) -> Path:
    """The folder that one mask database is built in."""
    return home() / "data" / "databases" / _simple(name)


def _simple(name: str) -> str:
    if (
        not isinstance(name, str)
        or not name
        or name.startswith(".")
        or not all(c.isalnum() or c in "-_." for c in name)
    ):
        raise InvalidInput(
            f"{name!r} is no usable name: letters, digits, '-', '_' and '.' only, and not "
            "starting with '.'."
        )
    return name
