import numpy as np
import pandas as pd
import pytest

from brain_tumor.metrics.saliency import (
    ON_TUMOUR,
    REGIONS,
    compare_with_tumour,
    find_regions,
    mean_on_tumour,
    mean_shares,
    share_regions,
)


@pytest.fixture
def head():
    """A disc of radius 40 in an image of 128, dark inside a ring as a skull is."""
    rows, columns = np.mgrid[:128, :128] - 63.5
    radius = np.hypot(rows, columns)
    return np.where(radius < 40, np.where((radius > 30) & (radius < 34), 0, 150), 0).astype(np.uint8), radius


def test_regions_are_background_rim_and_inside(head):
    image, radius = head
    regions = find_regions(image)
    assert set(regions[radius < 29].tolist()) == {REGIONS.index("inside")}
    assert set(regions[(radius > 33) & (radius < 38)].tolist()) == {REGIONS.index("rim")}
    assert set(regions[radius > 43].tolist()) == {REGIONS.index("outside")}


def test_shares_of_heat_and_of_a_flat_map_add_up(head):
    image, radius = head
    flat = np.zeros((128, 128))
    flat[:, 32:96] = 1
    middle = share_regions((radius < 10).astype(float), find_regions(image), flat)
    assert middle["inside"] == 1
    assert sum(middle[region] for region in REGIONS) == pytest.approx(1)
    assert middle["inside_uniform"] == pytest.approx((find_regions(image)[:, 32:96] == REGIONS.index("inside")).mean())
    assert sum(middle[f"{region}_uniform"] for region in REGIONS) == pytest.approx(1)
    corner = np.zeros((128, 128))
    corner[:5, :5] = 3
    assert share_regions(corner, find_regions(image), flat)["outside"] == 1
    none = share_regions(np.zeros((128, 128)), find_regions(image), flat)
    assert np.isnan([none[region] for region in REGIONS]).all()


def test_image_without_a_head():
    assert (
        share_regions(np.ones((64, 64)), find_regions(np.zeros((64, 64), np.uint8)), np.ones((64, 64)))["outside"] == 1
    )
    assert (
        share_regions(np.ones((64, 64)), find_regions(np.full((64, 64), 200, np.uint8)), np.ones((64, 64)))["outside"]
        == 0
    )


def test_means_weigh_an_image_by_how_many_it_stands_for():
    """Class a: a mistake for itself, a right one for three; the second of b has no heat."""
    inside = [0.2, 0.8, 0.6, np.nan]
    shares = {
        "inside": inside,
        "rim": 1 - np.array(inside),
        "outside": [0.0, 0, 0, np.nan],
        "inside_uniform": [0.4, 0.8, 0.1, 0.4],
    }
    looks = pd.DataFrame(
        {"class": list("aabb"), "weight": [1.0, 3, 1, 2], **shares, "rim_uniform": 0.1, "outside_uniform": 0.2}
    )
    means = mean_shares(looks)
    assert means["inside"].to_dict() == pytest.approx({"a": (0.2 + 3 * 0.8) / 4, "b": 0.6})
    assert means["inside_uniform"].to_dict() == pytest.approx({"a": (0.4 + 3 * 0.8) / 4, "b": (0.1 + 2 * 0.4) / 3})


def test_saliency_on_the_tumour_by_hand():
    """A head of 64 x 64 pixels, a tumour of 16 x 16 away from its centre."""
    image = np.zeros((128, 128), np.uint8)
    image[32:96, 32:96] = 100
    tumour = np.zeros_like(image)
    tumour[36:52, 36:52] = 1
    uniform = np.ones(image.shape)
    regions = find_regions(image)
    on = compare_with_tumour(tumour.astype(float), regions, tumour, uniform)
    assert (on["tumour"], on["pointing"], on["auc"]) == (1, 1, 1)
    assert on["tumour_uniform"] == pytest.approx(256 / 128**2)
    assert on["pointing_centre"] == 0
    assert on["auc_centre"] < 0.5
    flat = compare_with_tumour(uniform, regions, tumour, uniform)
    assert flat["tumour"] == flat["tumour_uniform"]
    assert flat["auc"] == 0.5
    elsewhere = np.zeros(image.shape)
    elsewhere[80:90, 80:90] = 1
    assert compare_with_tumour(elsewhere, regions, tumour, uniform)["auc"] < 0.5
    for map_, mask in ((0 * uniform, tumour), (uniform, 0 * tumour)):
        assert np.isnan(list(compare_with_tumour(map_, regions, mask, uniform).values())).all()


def test_means_on_the_tumour_weigh_images_and_leave_unknown_ones_out():
    values = {name: [0.2, 0.6, np.nan, 1.0] for name in ON_TUMOUR}
    classes = {"class": list("aaab"), "predicted": list("aaaa"), "weight": [1.0, 3, 9, 1]}
    table = mean_on_tumour(pd.DataFrame(classes | values)).set_index(["class", "correct"])
    assert table.loc[("all", True), "tumour"] == pytest.approx(0.5)
    assert table.loc[("all", True), "images"] == 2
    assert table.loc[("b", False), "auc"] == 1
    assert len(mean_on_tumour(pd.DataFrame(classes | dict.fromkeys(ON_TUMOUR, np.nan)))) == 0
