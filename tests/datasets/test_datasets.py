import io
import os
import pickle
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from kedro.io import DatasetError
from matplotlib.figure import Figure
from PIL import Image
from support import save_patient

from brain_tumor.data.common.atomic import _host, replacing
from brain_tumor.data.common.store import StoreContent
from brain_tumor.data.survival.tumour_masks import Mask
from brain_tumor.datasets import (
    FiguresDataset,
    FolderDataset,
    InspectionsDataset,
    MasksDataset,
    NetworkDataset,
    SimulatedDataset,
    StoreDataset,
)
from brain_tumor.figures.segmentation_data import Animation
from brain_tumor.networks import build
from brain_tumor.networks.trained import TrainedNetwork


def content(value, fingerprint=None, fails=False):
    def chunks():
        yield {"image": np.full((2, 3, 3), value, np.float32)}
        if fails:
            raise RuntimeError("disk full")

    return StoreContent({"fingerprint": fingerprint}, chunks())


def test_store_is_written_again_only_if_its_fingerprint_changed(tmp_path):
    dataset = StoreDataset(filepath=str(tmp_path / "deep" / "store.h5"))
    with pytest.raises(DatasetError, match="isn't there"):
        dataset.load()
    values = []
    for value, fingerprint in ((1, "a"), (2, "a"), (3, "b")):
        dataset.save(content(value, fingerprint))
        values.append(dataset.load().read(np.array([0]), "image")[0].max())
    assert values == [1, 1, 3]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    dataset = StoreDataset(filepath=str(tmp_path / "store.h5"))
    dataset.save(content(1, "a"))
    with pytest.raises(DatasetError, match="disk full"):
        dataset.save(content(2, "b", fails=True))
    assert dataset.load().read(np.array([0]), "image")[0].max() == 1
    assert [f.name for f in tmp_path.iterdir()] == ["store.h5"]


FULL_DISK = """
import resource, signal, sys
import numpy as np
from brain_tumor.data.common.store import StoreContent
from brain_tumor.datasets import StoreDataset

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
rng = np.random.default_rng(0)
chunks = ({"image": rng.random((20, 4, 32, 32))} for _ in range(100))
StoreDataset(filepath=sys.argv[1]).save(StoreContent({}, chunks))
"""


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    """A file that may not grow is to the writer what a full disk is. In a process of its own.

    HDF5 can't end cleanly after that.
    """
    dataset = StoreDataset(filepath=str(tmp_path / "store.h5"))
    dataset.save(content(1, "a"))
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "store.h5")], capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert "File too large" in result.stderr
    assert dataset.load().read(np.array([0]), "image")[0].max() == 1
    assert [f.name for f in tmp_path.iterdir()] == ["store.h5"]


def test_the_draft_of_a_killed_process_goes_and_that_of_a_running_one_stays(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for process in (gone.pid, os.getpid()):
        (tmp_path / f".store.h5.{_host()}.{process}.0123abcd.draft").write_bytes(b"half")
    StoreDataset(filepath=str(tmp_path / "store.h5")).save(content(1, "a"))
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        f".store.h5.{_host()}.{os.getpid()}.0123abcd.draft",
        "store.h5",
    ]


def test_two_who_write_one_file_do_not_meet(tmp_path):
    with replacing(tmp_path / "file") as one, replacing(tmp_path / "file") as other:
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "file").read_text() == "one"  # the last to finish
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for content in ("a", "b"):
        with replacing(tmp_path / "folder") as draft:
            draft.mkdir()
            (draft / content).touch()
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["b"]


def test_replacing_keeps_the_old_file_on_an_error(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as draft:
        draft.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_network_describes_itself(tmp_path):
    network = build("classic_unet", n_filters=4)
    saved = TrainedNetwork(
        "classic_unet", {"n_filters": 4}, {"modalities": ["FLAIR"], "kept": [{"epoch": 3.0}]}, (network.state_dict(),)
    )
    dataset = NetworkDataset(filepath=str(tmp_path / "network.safetensors"))
    dataset.save(saved)
    loaded = dataset.load()
    assert (loaded.name, loaded.sizes, loaded.description) == (saved.name, saved.sizes, saved.description)
    x = torch.randn(1, 4, 16, 16)
    assert torch.equal(loaded.module()(x), network.eval()(x))


def test_figures_round_trip_and_old_ones_go(tmp_path):
    dataset = FiguresDataset(filepath=str(tmp_path / "figures"))
    dataset.save({"a": Figure(), "b": Figure()})
    dataset.save({"b": Figure()})
    assert list(dataset.load()) == ["b"]
    assert dataset.load()["b"].startswith(b"\x89PNG")
    assert not (tmp_path / "figures/a.png").exists()


def test_figures_of_somebody_else_stay_and_are_not_shown(tmp_path):
    dataset = FiguresDataset(filepath=str(tmp_path))
    (tmp_path / "my_thesis.png").write_bytes(b"mine")
    (tmp_path / ".b.png.draft").write_bytes(b"half")
    dataset.save({"a": Figure(), "b": Figure()})
    dataset.save({"b": Figure()})
    assert (tmp_path / "my_thesis.png").read_bytes() == b"mine"
    assert list(dataset.load()) == ["b"]
    (tmp_path / ".figures.json").unlink()  # as in a folder that an earlier version wrote
    assert list(dataset.load()) == ["b", "my_thesis"]
    dataset.save({"b": Figure()})
    assert (tmp_path / "my_thesis.png").exists()


def test_figures_of_a_run_that_was_killed_while_it_wrote_go_too(tmp_path, monkeypatch):
    dataset = FiguresDataset(filepath=str(tmp_path))
    monkeypatch.setattr(
        dataset, "_render", lambda figure: figure.savefig(io.BytesIO()) or b"png" if figure.get_suptitle() else 1 / 0
    )
    with pytest.raises(DatasetError, match="division"):
        dataset.save({"a": Figure(), "b": Figure()} | {"a": _titled("a")})
    assert (tmp_path / "a.png").exists()
    monkeypatch.undo()
    dataset.save({"b": Figure()})
    assert sorted(dataset.load()) == ["b"]
    assert not (tmp_path / "a.png").exists()


def _titled(title):
    figure = Figure()
    figure.suptitle(title)
    return figure


def test_animations_are_gifs_of_all_frames(tmp_path, rng):
    dataset = FiguresDataset(filepath=str(tmp_path / "figures"))
    dataset.save({"film": Animation(rng.integers(0, 255, (4, 8, 8, 3)).astype(np.uint8)), "still": Figure()})
    assert Image.open(io.BytesIO(dataset.load()["film"])).n_frames == 4
    dataset.save({"still": Figure()})
    assert list(dataset.load()) == ["still"]


def test_sample_is_kept_while_its_settings_stand(tmp_path):
    folder = tmp_path / "sample"
    SimulatedDataset(filepath=str(folder), patients=1, slices=(60, 62, 1)).load()
    file = next(folder.rglob("volume_1_slice_60.h5"))
    first = file.read_bytes(), file.stat().st_mtime_ns
    SimulatedDataset(filepath=str(folder), patients=1, slices=(60, 62, 1)).load()
    assert (file.read_bytes(), file.stat().st_mtime_ns) == first
    SimulatedDataset(filepath=str(folder), patients=1, slices=(60, 61, 1), seed=1).load()
    assert file.read_bytes() != first[0]
    assert len(list(folder.rglob("*.h5"))) == 1


def test_own_folder_is_taken_instead_and_never_written(tmp_path):
    dataset = SimulatedDataset(
        filepath=str(tmp_path / "sample"), patients=1, slices=(60, 61, 1), instead=str(tmp_path / "mine")
    )
    assert dataset.load() == tmp_path / "mine"
    assert not list(tmp_path.iterdir())
    with pytest.raises(DatasetError, match="nothing is saved"):
        dataset.save(tmp_path)


def test_a_folder_that_was_not_simulated_is_never_deleted(tmp_path):
    """An own folder as `filepath`, which is how other entries of a catalog are given their data."""
    (tmp_path / "p_flair.nii.gz").write_text("a scan")
    with pytest.raises(DatasetError, match="segmentation_source=PATH"):
        SimulatedDataset(filepath=str(tmp_path), patients=1, slices=(60, 61, 1)).load()
    assert (tmp_path / "p_flair.nii.gz").read_text() == "a scan"


@pytest.mark.parametrize(
    "kind", [FiguresDataset, FolderDataset, InspectionsDataset, MasksDataset, NetworkDataset, StoreDataset]
)
def test_datasets_can_be_sent_to_another_process(kind, tmp_path):
    dataset = kind(filepath=str(tmp_path / "x"))
    assert pickle.loads(pickle.dumps(dataset))._describe() == dataset._describe()


def test_masks_are_whole_or_not_there_and_other_files_stay(tmp_path, brats, monkeypatch):
    save_patient(tmp_path / "scan", "p1", np.ones((4, 5, 6, 3), np.int16), np.zeros((5, 6, 3)))
    like, folder = tmp_path / "scan/p1_flair.nii.gz", tmp_path / "masks"
    labels = np.zeros((5, 6, 3), np.uint8)
    labels[1, 2, 1] = 3
    dataset = MasksDataset(filepath=str(folder))
    dataset.save(Mask(name, f"{name}_seg.nii.gz", labels, brats.tissues, np.eye(4), like) for name in ("p1", "p2"))
    assert sorted(path.name for path in dataset.load().iterdir()) == ["p1_seg.nii.gz", "p2_seg.nii.gz"]
    assert np.asarray(nib.load(folder / "p2_seg.nii.gz").dataobj)[1, 2, 1] == 4
    before = (folder / "p1_seg.nii.gz").read_bytes()

    def fill_the_disk(self, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Mask, "write", fill_the_disk)
    with pytest.raises(DatasetError, match="disk full"):
        dataset.save(Mask(name, f"{name}_seg.nii.gz", labels, brats.tissues, np.eye(4), like) for name in ("p1", "p3"))
    assert sorted(path.name for path in folder.iterdir()) == ["p1_seg.nii.gz", "p2_seg.nii.gz"]
    assert (folder / "p1_seg.nii.gz").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks", "scan"]
