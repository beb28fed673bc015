import numpy as np
import pandas as pd
import pytest
from support import real

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.images.borders import ImagePreparation
from brain_tumor.data.images.class_folders import read_image
from brain_tumor.data.images.outlines import draw_tumour, find_outlines
from brain_tumor.data.images.patients import PUBLISHED

SQUARE = np.array([[0.25, 0.5], [0.5, 0.5], [0.5, 0.75], [0.25, 0.75]])


def test_a_tumour_is_drawn_where_the_image_shows_it():
    whole = BoundingBox(0, 200, 0, 400)
    mask = draw_tumour(SQUARE, 400, 200, whole, ImagePreparation(image_size=64, fit="stretch"))
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (32, 47, 16, 31)
    padded = draw_tumour(SQUARE, 400, 200, whole, ImagePreparation(image_size=64, fit="pad"))
    rows, columns = np.nonzero(padded)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((32, 40, 16, 32), abs=1)
    cut = draw_tumour(SQUARE, 400, 200, BoundingBox(100, 200, 100, 200), ImagePreparation(image_size=64))
    assert cut.mean() == pytest.approx(0.5, abs=0.03)


def test_outlines_are_those_of_the_published_images_mirrored_where_the_image_is():
    table = pd.read_csv(PUBLISHED / "brain_tumor_mri_dataset.csv")
    index = pd.DataFrame({"file": "more/" + table["file"], "folder": table["file"].str.split("/").str[0]})
    outlines = find_outlines(index)
    assert len(outlines) == len(table)
    assert find_outlines(index.head(10)) == {}
    twice = table[table.duplicated("figshare_image", keep=False)].groupby("figshare_image")["mirrored"].nunique()
    pair = table[table["figshare_image"] == twice.index[twice == 2][0]].sort_values("mirrored")
    plain, mirrored = (outlines[f"more/{file}"] for file in pair["file"].iloc[[0, -1]])
    assert plain[:, 0] == pytest.approx(1 - mirrored[:, 0])
    assert plain[:, 1] == pytest.approx(mirrored[:, 1])
    assert all((outline >= 0).all() and (outline <= 1).all() for outline in outlines.values())


def test_tumours_are_brighter_than_what_is_around_them():
    """Meningiomas take up contrast agent: a mask at another place, or not mirrored, would not be brighter."""
    source = real("brain-tumor-mri-dataset")
    table = pd.read_csv(PUBLISHED / "brain_tumor_mri_dataset.csv")
    index = pd.DataFrame({"file": table["file"], "folder": table["file"].str.split("/").str[0]})
    outlines = find_outlines(index)
    chosen = table[(table["class"] == "meningioma") & (table["mirrored"] == 1)].sample(40, random_state=0)["file"]
    ratios = []
    for file in chosen:
        grey = read_image(source / file).grey
        height, width = grey.shape
        if height != width:
            continue
        whole = BoundingBox(0, height, 0, width)
        mask = draw_tumour(outlines[file], width, height, whole, ImagePreparation(image_size=height))
        ratios.append(grey[mask > 0].mean() / grey[mask[:, ::-1] > 0].mean())
    assert np.median(ratios) > 1.2
