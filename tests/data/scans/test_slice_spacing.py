import shutil

import numpy as np
import pandas as pd
import pytest

from brain_tumor.data.scans.find_scans import find_scans
from brain_tumor.data.scans.slice_index import inspect_scan
from brain_tumor.data.scans.slice_spacing import find_step
from brain_tumor.data.simulation.scans import simulate_data_set
from brain_tumor.data.survival.tumour_masks import measure_slices
from brain_tumor.pipelines.data_segmentation.nodes import describe_patients


@pytest.mark.parametrize(
    ("numbers", "step"),
    [
        (range(20), 1),
        (range(14, 139, 6), 6),
        (range(138, 13, -6), 6),
        ([*range(0, 60, 6), *range(66, 120, 6)], 6),  # one of twenty is missing
        ([0, 6, 18, 24], None),  # one of five
        ([3, 9], None),
        ([5, 5, 5], None),
        ([5, 5, 10, 15], None),
        ([], None),
        ([0, 16, 32, 48], None),  # 16 mm apart
    ],
)
def test_slices_that_make_a_volume(numbers, step):
    assert find_step(np.array(numbers, int)) == step


def test_distance_counts_in_millimetres():
    assert find_step(np.arange(0, 48, 16), slice_mm=0.5) == 16
    assert find_step(np.arange(0, 30, 6), slice_mm=3.0) is None


def test_a_volume_thinned_to_every_sixth_slice_keeps_its_millilitres_everywhere(tmp_path, brats):
    """In the table of patients (the data report) and in the features of survival."""
    tables = {}
    simulate_data_set(tmp_path / "1", patients=1, slices=range(20, 140), seed=3, workers=1)
    (tmp_path / "6").mkdir()
    for number in range(20, 140, 6):
        shutil.copy(next((tmp_path / "1").rglob(f"volume_1_slice_{number}.h5")), tmp_path / "6")
    for step in (1, 6):
        folder = tmp_path / str(step)
        (scan,) = find_scans(folder, brats)
        index = inspect_scan(scan, brats, folder)
        tables[step] = describe_patients(index, folder, brats).iloc[0]
    labels, rows = read_labels(tmp_path / "6", brats)
    measured = measure_slices(tables[6]["patient"], labels, rows, None, brats).iloc[0]
    assert tables[6]["slice_step"] == 6
    assert tables[6]["tumour_ml"] == pytest.approx(tables[1]["tumour_ml"], rel=0.05)
    assert measured["WT_ml"] == pytest.approx(tables[6]["tumour_ml"], rel=1e-6)


def read_labels(folder, brats):
    from brain_tumor.data.scans.find_scans import read_slices

    (scan,) = find_scans(folder, brats)
    slices = list(read_slices(scan, brats))
    rows = pd.DataFrame({"slice": [s.number for s in slices], "row_mm": 1.0, "column_mm": 1.0, "slice_mm": 1.0})
    return np.stack([s.labels for s in slices]), rows
