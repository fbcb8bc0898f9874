"""The benchmark of CUDA devices: it refuses in words without one, and its table is right."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_device_it_says_so(capsys):
    assert gpu.main([]) == 2
    assert "no CUDA device here" in capsys.readouterr().err


def test_the_table_of_the_cpus_half(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu.paths, "results_dir", lambda run: tmp_path / run)
    (tmp_path / "x").mkdir()
    tiny, short = gpu.scorings, replace(gpu.CALIBRATED, steps=5)
    monkeypatch.setattr(gpu, "scorings", lambda name, devices: tiny(name, devices, tiny=True))
    trainings = gpu.trainings
    monkeypatch.setattr(gpu, "trainings", lambda devices, sets: trainings(devices, [(2, short)]))
    assert gpu.main(["x", "--cpu"]) == 0
    table = pd.read_csv(tmp_path / "x" / "speed_gpu.csv")
    works = [
        "training 2 masks, calibrated",
        *(f"{n}, {m}" for n in gpu.NETWORKS for m in gpu.METHODS),
    ]
    assert list(dict.fromkeys(table["work"])) == works
    assert set(table["device"]) == {"cpu"} and set(table["precision"]) == set(gpu.TYPES)
    assert (table["ms_each"] > 0).all()
    of_trainings = table["work"] == works[0]
    assert (table.loc[of_trainings, "floor_ms"] > 0).all()
    exact = table["precision"] == "float32"
    assert (table.loc[exact, "difference"] == 0).all()
    assert table.loc[~exact, "difference"].between(1e-9, 0.05).all()
    assert "leave_one_out" in capsys.readouterr().out


def test_devices_side_by_side():
    lines = [
        ("training", "float32", "cpu", 8.0, 1.5, 1.0, 0.0),
        ("training", "float32", "cuda", 2.0, 0.5, 5.0, 0.1),
        ("training", "tf32", "cuda", 1.0, 0.5, 4.0, 0.2),
        ("scores", "bfloat16", "cpu", 6.0, np.nan, 2.0, 0.3),
        ("scores", "bfloat16", "cuda", 3.0, np.nan, 3.0, 0.4),
    ]
    columns = ["work", "precision", "device", "ms_each", "floor_ms", "peak_mib", "difference"]
    wide = gpu.side_by_side(pd.DataFrame(lines, columns=columns))
    assert wide["work"].tolist() == ["training", "training", "scores"]
    assert wide["precision"].tolist() == ["float32", "tf32", "bfloat16"]
    np.testing.assert_array_equal(wide["cpu_ms_each"], [8, np.nan, 6])
    np.testing.assert_array_equal(wide["cuda_peak_mib"], [5, 4, 3])
    np.testing.assert_array_equal(wide["times_faster"], [4, np.nan, 2])
