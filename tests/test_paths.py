from pathlib import Path

import pytest

import bogp
from bogp import paths
from bogp.errors import InvalidInput


def test_everything_written_lies_under_bogp_home(home):
    for path in (
        paths.database_dir("bernoulli-128"),
        paths.store_path(),
        paths.evaluations_dir("paper"),
        paths.results_dir("smoke"),
        paths.figures_dir("paper"),
    ):
        assert path.is_relative_to(home)
    assert paths.database_dir("bernoulli-128") == home / "data" / "databases" / "bernoulli-128"
    assert paths.results_dir("smoke") == home / "data" / "results" / "smoke"
    assert paths.figures_dir("paper") == home / "figures" / "paper"


def test_weights_lie_with_the_code_else_at_home(home, monkeypatch):
    assert paths.weights_dir() == Path(bogp.__file__).resolve().parents[1] / "data" / "weights"
    monkeypatch.setattr(paths, "checkout", lambda: None)
    assert paths.weights_dir() == home / "data" / "weights"


def test_the_cache_follows_xdg_cache_home(home):
    assert paths.cache_dir().is_relative_to(home / "cache")


def test_without_bogp_home_a_checkout_is_the_home(monkeypatch):
    monkeypatch.delenv("BOGP_HOME", raising=False)
    assert paths.home() == Path(bogp.__file__).resolve().parents[1]


def test_a_relative_bogp_home_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOGP_HOME", "here")
    assert paths.home() == tmp_path / "here"


def test_asking_for_a_path_makes_no_folder(home):
    paths.results_dir("smoke"), paths.database_dir("x"), paths.cache_dir()
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "../up", "a b", "a\\b", "a\0", "~", "x;y", "/etc"]
)
@pytest.mark.parametrize(
    "folder", [paths.results_dir, paths.figures_dir, paths.database_dir, paths.evaluations_dir]
)
def test_a_name_that_could_leave_its_folder_is_refused(home, folder, name):
    with pytest.raises(InvalidInput, match="no usable name"):
        folder(name)


def test_data_dir_is_none_unless_set(home, monkeypatch):
    assert paths.data_dir() is None
    monkeypatch.setenv("BOGP_DATA_DIR", "")
    assert paths.data_dir() is None


def test_a_relative_data_dir_is_sought_in_the_working_folder_then_at_home(
    home, tmp_path_factory, monkeypatch
):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("BOGP_DATA_DIR", "sets")
    (home / "sets").mkdir()
    assert paths.data_dir() == home / "sets"
    (elsewhere / "sets").mkdir()
    assert paths.data_dir() == elsewhere / "sets"


def test_a_data_dir_that_is_no_folder_is_refused(home, monkeypatch):
    (home / "file").write_text("")
    for value in (home / "file", home / "absent", "absent"):
        monkeypatch.setenv("BOGP_DATA_DIR", str(value))
        with pytest.raises(InvalidInput, match="not a folder"):
            paths.data_dir()
