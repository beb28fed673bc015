"""A tiny data set of two classes that classifiers learn in seconds: bars that lie, bars that stand."""

import numpy as np

from brain_tumor.data.common.store import Store, StoreContent, write_store

SIZE = 80
SMALL = {
    "cnn": {"n_filters": 6, "image_size": SIZE},
    "alexnet": {"n_filters": 12, "image_size": SIZE},
    "vgg16": {"n_filters": 8, "hidden": 32, "image_size": 32},
    "vit": {"width": 32, "depth": 2, "heads": 4, "hidden": 48, "image_size": SIZE},
}


def save_bars(folder, side, count=24):
    """Bars in noise, lying (class 1) and standing (class 0)."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, (count, 1, side, side)).astype(np.uint8)
    label = np.arange(count, dtype=np.uint8) % 2
    for k in range(count):
        place, edge = rng.integers(side // 4, side // 2), side // 8
        window = (
            np.s_[k, 0, place : place + edge, edge:-edge] if label[k] else np.s_[k, 0, edge:-edge, place : place + edge]
        )
        image[window] = 200
    file = np.array([f"bar_{k}.jpg" for k in range(count)], dtype=object)
    write_store(folder / "bars.h5", StoreContent({}, iter([{"image": image, "label": label, "file": file}])))
    return Store(folder / "bars.h5")
