"""The benchmark of GPUs, run small on the CPU: in a process of its own, as it is written on the card."""

import csv
import re
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest
import torch
from support import ROOT

PARTS = ("ceilings", "checks", "training", "augmentation", "prediction")
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """Rows of the table of a small run."""
    table = tmp_path_factory.mktemp("gpu") / "gpu.csv"
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--small", "--minutes", "60", "--out", str(table)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=table.parent)
    assert result.returncode == 0, result.stdout + result.stderr
    if not torch.cuda.is_available():
        assert result.stdout.startswith("torch finds no CUDA device: the parts run small on the CPU")
    assert "not measured" not in result.stdout
    with table.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def of(figures, part, figure):
    return {row["case"]: row["value"] for row in figures if row["part"] == part and row["figure"] == figure}


def test_what_is_computed_is_right(figures):
    checks = of(figures, "step against fp64", "verdict") | of(figures, "trainings", "verdict")
    assert len(checks) >= 7
    assert set(checks.values()) <= {"ok", "identical"}
    (error,) = of(figures, "out of memory", "error").values()
    assert "batch_size" in error
    assert "training.resident_gb" in error


def test_every_network_is_trained_in_all_ways(figures):
    for way in ("ours", "plain", "engineer", "steps"):
        rates = of(figures, "training", f"{way} /s")
        assert len(rates) == 8
        assert all(float(rate) > 0 for rate in rates.values())
    basic = [rate for rate in of(figures, "training", "basic_unet /s").values() if rate]
    assert len(basic) == 1
    # No upper bound: on a CPU that other work shares, the ceiling may be measured lower than the step.
    assert all(float(share) > 0 for share in of(figures, "training", "of matrix").values())


def test_a_patient_is_predicted_by_each_network(figures):
    assert len(of(figures, "prediction", "seconds")) == 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_the_host_waits_once_in_an_epoch(figures):
    assert {int(waits) for waits in of(figures, "training", "waits").values()} <= {0, 1}


@pytest.fixture
def speed(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu_speed

    return gpu_speed


def test_time_with_a_kernel_is_a_union(speed):
    assert speed.union([(0, 2), (1, 3), (5, 6), (5.2, 5.5)]) == pytest.approx(4)
    assert speed.union([]) == 0


@pytest.mark.parametrize(
    ("idle", "launching", "of_matrix", "of_copy", "holder"),
    [
        (0.6, 0.9, 0.1, 0.1, "launches"),
        (0.6, 0.1, 0.1, 0.1, "host"),
        (0.05, 0.1, 0.2, 0.6, "memory"),
        (0.05, 0.1, 0.6, 0.2, "matrix units"),
    ],
)
def test_what_holds_the_rest(speed, idle, launching, of_matrix, of_copy, holder):
    assert speed.name_holder(idle, launching, of_matrix, of_copy) == holder


def test_bytes_of_operators_by_hand(speed):
    x = torch.ones(10, 10)
    with speed.ByteCounter() as counter:
        x.t().add(1)  # the transposed view moves nothing; 400 bytes in, 400 out
    assert counter.bytes == 800


def test_basic_unet_is_about_as_large(speed):
    from gpu_cases import Case

    case = Case("classic_unet", 32, 2, {"n_filters": 16})
    other, _ = speed.basic_unet(case)
    sizes = [sum(parameter.numel() for parameter in network.parameters()) for network in (case.build(), other)]
    assert 0.7 < sizes[1] / sizes[0] < 1.4


def test_packages_that_it_needs_are_listed():
    """In a new process, that imports what the benchmark and training do."""
    code = "import sys; sys.path.insert(0, 'benchmarks'); import gpu; print(*sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    found = {module.split(".")[0] for module in modules.split()}
    listed = re.split(r"[,.\s]+", (BENCHMARKS / "gpu.py").read_text(encoding="utf-8").split('"""')[1].lower())
    for heavy in ("kedro", "kedro_viz", "nilearn", "sklearn", "cv2", "monai"):
        assert heavy not in found
    names = packages_distributions()
    direct = {
        "torch",
        "numpy",
        "joblib",
        "lightning",
        "h5py",
        "hdf5plugin",
        "jaxtyping",
        "pandas",
        "pydantic",
    }
    assert direct <= found
    for module in direct:
        assert names[module][0].lower() in listed
