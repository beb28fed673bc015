import numpy as np
import pytest

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.common.store import Store, StoreContent, fingerprint, write_store


@pytest.fixture
def store(tmp_path, rng):
    chunks = [
        {
            "image": rng.random((n, 2, 4, 4)).astype(np.float16),
            "patient": np.array([f"p{n}é"] * n, dtype=object),
            "slice": np.arange(n, dtype=np.int16),
        }
        for n in (3, 5, 1)
    ]
    path = tmp_path / "store.h5"
    assert write_store(path, StoreContent({"name": "x", "sizes": [1, 2]}, iter(chunks))) == 9
    return Store(path), np.concatenate([c["image"] for c in chunks])


def test_round_trip(store):
    store, image = store
    assert store.description == {"name": "x", "sizes": [1, 2]}
    assert store.rows["patient"].tolist() == ["p3é"] * 3 + ["p5é"] * 5 + ["p1é"]
    assert store.rows["slice"].tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 0]
    assert np.array_equal(store.read(np.arange(9), "image")[0], image)


@pytest.mark.parametrize("rows", [[], [4], [8, 0, 1, 2, 5], [3, 3, 4]])
def test_rows_come_in_the_order_asked_for(store, rows):
    store, image = store
    got, number = store.read(np.array(rows, int), "image", "slice")
    assert np.array_equal(got, image[rows])
    assert len(number) == len(rows)


@pytest.mark.parametrize("rows", [[], [4], [8, 0, 1, 2, 5]])
def test_of_images_only_a_window_may_be_read(store, rows):
    store, image = store
    got, number = store.read(np.array(rows, int), "image", "slice", window=BoundingBox(1, 3, 0, 3))
    assert np.array_equal(got, image[rows][..., 1:3, :3])
    assert len(number) == len(rows)
    assert np.array_equal(store.read_columns("slice")[0], store.rows["slice"])


def test_fingerprints_tell_contents_apart():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
