"""The rehearsal at full size: its source, and what it measures; the run itself is not run here."""

import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from support import ROOT

from brain_tumor.data.common.files import is_simulated
from brain_tumor.data.scans.find_scans import find_scans

sys.path.insert(0, str(ROOT / "benchmarks"))
import full_size


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Five patients of three slices, two of them simulated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_size, "DIFFERENT", 2)
        patch.setattr(full_size, "SLICES", range(70, 73))
        yield full_size.make_source(tmp_path_factory.mktemp("source"), 5)


def test_patients_are_repeated_in_the_published_layout(source, brats):
    scans = find_scans(source, brats)
    assert [scan.patient for scan in scans] == [f"BraTS20_Training_{number:03d}" for number in range(1, 6)]
    assert all(len(scan.files) == 3 for scan in scans)
    assert is_simulated(source)
    # Hard links: the third patient is the first one again.
    assert scans[2].files[1].samefile(scans[0].files[1])
    assert not scans[1].files[1].samefile(scans[0].files[1])


def test_tables_name_every_patient(source):
    content = source / full_size.CONTENT
    meta = pd.read_csv(content / "meta_data.csv")
    assert meta.groupby("volume").size().to_dict() == dict.fromkeys(range(1, 6), 3)
    names = pd.read_csv(content / "name_mapping.csv", keep_default_na=False)
    assert names["BraTS_2020_subject_ID"].tolist() == [f"BraTS20_Training_{number:03d}" for number in range(1, 6)]
    assert names.loc[2, "Grade"] == names.loc[0, "Grade"]


def test_growth_is_1_where_time_is_linear():
    rows = [("a", 10.0, 2), ("b", 10.0, 2), ("a", 40.0, 8), ("b", 160.0, 8)]
    table = pd.DataFrame(rows, columns=["node", "seconds", "patients"]).assign(peak_mib=1.0, written_mib=2.0)
    growth = full_size.compare_sizes(table)["growth"]
    assert growth.to_dict() == {"a": 1.0, "b": 4.0}


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_of_a_process_and_those_that_it_started_is_measured():
    code = "block = bytearray(b'x') * (64 << 20); print('ready', flush=True); input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        own = full_size.memory_mib(child.pid)
        both = full_size.memory_mib(os.getpid())
        child.communicate("\n")
    assert 64 < own < 100
    assert both > own


def test_networks_that_are_not_named_are_left_out(tmp_path):
    settings = tmp_path / "parameters.yml"
    shutil.copy(ROOT / "conf/full/parameters_segmentation.yml", settings)
    full_size.keep_networks(settings, ["classic_unet"])
    kept = yaml.safe_load(settings.read_text())["segmentation"]
    assert kept["classic_unet"]["sizes"] == {"n_filters": 32}
    assert kept["improved_unet"] is kept["residual_attention_unet"] is None
    assert kept["recipe"]["epochs"] == 30
