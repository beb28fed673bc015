from math import pi

import numpy as np
import pytest

from brain_tumor.data.survival.shape_features import (
    FEATURES,
    find_components,
    measure_tumour,
    require_targets,
    smooth_border,
    surface_area,
)

TARGETS = {"NCR": (1,), "ED": (2,), "ET": (3,), "WT": (1, 2, 3), "TC": (1, 3)}
GRIDS = [(1.0, 1.0, 1.0), (1.875, 1.875, 1.2109375), (2.0, 1.0, 1.5), (1.0, 1.0, 5.0)]
CENTRE = np.zeros(3)


def grid(spacing, half=45):
    """Millimetres from the middle of a cube of voxels, and the affine of indices turned L, P, S."""
    axes = [np.arange(-half, half + step / 2, step) for step in spacing]
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = half, half, -half
    return np.meshgrid(*axes, indexing="ij"), affine


def ball(radius, spacing, at=(0, 0, 0)):
    (x, y, z), affine = grid(spacing)
    return (x - at[0]) ** 2 + (y - at[1]) ** 2 + (z - at[2]) ** 2 < radius**2, affine


@pytest.mark.parametrize("spacing", GRIDS)
@pytest.mark.parametrize("radius", [15, 25])
def test_a_ball_has_its_volume_surface_and_sphericity(radius, spacing):
    inside, affine = ball(radius, spacing, at=(0.3, 0.2, 0.7))
    features = measure_tumour(inside.astype(np.uint8), affine, CENTRE, TARGETS)
    assert features["WT_ml"] == pytest.approx(4 / 3 * pi * radius**3 / 1000, rel=0.01 * max(spacing))
    assert features["WT_surface_cm2"] == pytest.approx(4 * pi * radius**2 / 100, rel=0.04)
    assert features["WT_sphericity"] == pytest.approx(1, abs=0.02)
    for direction, step in zip(("left_right", "front_back", "feet_head"), spacing, strict=True):
        assert features[f"WT_{direction}_mm"] == pytest.approx(2 * radius, abs=step)


@pytest.mark.parametrize("spacing", GRIDS)
def test_an_ellipsoid_has_its_surface(spacing):
    (x, y, z), affine = grid(spacing)
    a, b, c, p = 36, 20, 16, 1.6075
    features = measure_tumour(((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2 < 1).astype(np.uint8), affine, None, TARGETS)
    surface = 4 * pi * (((a * b) ** p + (a * c) ** p + (b * c) ** p) / 3) ** (1 / p)  # Knud Thomsen, within 1.1 %
    volume = 4 / 3 * pi * a * b * c
    assert features["WT_surface_cm2"] == pytest.approx(surface / 100, rel=0.04)
    assert features["WT_sphericity"] == pytest.approx(pi ** (1 / 3) * (6 * volume) ** (2 / 3) / surface, rel=0.03)


@pytest.mark.parametrize("spacing", GRIDS[:3])
def test_a_box_has_its_volume_extent_and_surface(spacing):
    """Flat faces along the axes are the worst case of few directions: a tenth is lost there."""
    inside = np.zeros((60, 60, 60), bool)
    inside[10:40, 12:32, 20:45] = True
    sides = np.array([30, 20, 25]) * spacing
    features = measure_tumour(
        inside.astype(np.uint8), np.diag([-spacing[0], -spacing[1], spacing[2], 1.0]), None, TARGETS
    )
    assert features["WT_ml"] == pytest.approx(np.prod(sides) / 1000)
    assert [features[f"WT_{name}_mm"] for name in ("left_right", "front_back", "feet_head")] == pytest.approx(sides)
    surface = 2 * (sides[0] * sides[1] + sides[0] * sides[2] + sides[1] * sides[2])
    assert surface_area(inside, spacing) == pytest.approx(surface, rel=0.12)


def lumpy(spacing):
    """A tumour of three tissues that is no mirror image of itself."""
    (x, y, z), affine = grid(spacing)
    lump = 3 * np.sin(x / 6) * np.cos(y / 5) * np.sin(z / 7 + 1)
    distance = np.sqrt(((x - 5) / 1.3) ** 2 + (y + 4) ** 2 + ((z - 2) / 0.8) ** 2) + lump
    labels = np.where(distance < 10, 1, np.where(distance < 15, 3, np.where(distance < 24, 2, 0))).astype(np.uint8)
    return labels, affine


def test_resampling_changes_little():
    fine = measure_tumour(*lumpy((1.0, 1.0, 1.0)), np.array([1.0, 2.0, 3.0]), TARGETS)
    for spacing, tolerance in (((1.875, 1.875, 1.2109375), 0.025), ((1.5, 2.0, 1.0), 0.025), ((1.0, 1.0, 5.0), 0.1)):
        coarse = measure_tumour(*lumpy(spacing), np.array([1.0, 2.0, 3.0]), TARGETS)
        for feature in FEATURES:
            slack = max(spacing) * 2 if feature.group == "extent" else 0.3 if feature.unit == "mm" else 0
            assert coarse[feature.name] == pytest.approx(fine[feature.name], rel=tolerance, abs=slack), feature.name


def test_tissues_regions_and_ratios_by_hand():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[2:12, 2:12, 2:12] = 2
    labels[2:7, 2:12, 2:12] = 3
    labels[2:4, 2:12, 2:12] = 1
    features = measure_tumour(labels, np.diag([-2.0, -2.0, 2.0, 1.0]), None, TARGETS)
    assert [features[f"{name}_ml"] for name in ("NCR", "ED", "ET", "TC", "WT")] == pytest.approx(
        [1.6, 4.0, 2.4, 4.0, 8.0]
    )
    assert [features[name] for name in ("ED_of_WT", "ET_of_WT", "ET_of_TC")] == pytest.approx([0.5, 0.3, 0.6])


def test_pieces_are_counted_without_specks():
    inside = np.zeros((40, 40, 40), bool)
    inside[2:8, 2:8, 2:8] = True  # 216 mm³
    inside[8:14, 8:14, 8:14] = True  # touches the first at a corner
    inside[20:26, 20:26, 20:26] = True
    inside[35, 35, 35] = True
    count, kept = find_components(inside, (1, 1, 1))
    assert count == 2
    assert kept.sum() == 3 * 216
    assert not kept[35, 35, 35]
    assert find_components(inside, (10, 10, 10))[0] == 3


def test_distances_from_centre_and_midline():
    inside, affine = ball(8, (1.0, 1.0, 1.0), at=(3, -4, 0))
    features = measure_tumour(inside.astype(np.uint8), affine, np.array([-3 + 12.0, 4.0, 5.0]), TARGETS)
    assert features["midline_mm"] == pytest.approx(12, abs=1e-6)
    assert features["centre_mm"] == pytest.approx(13, abs=1e-6)
    unknown = measure_tumour(inside.astype(np.uint8), affine, None, TARGETS)
    assert np.isnan([unknown["midline_mm"], unknown["centre_mm"]]).all()


def test_what_is_not_there_is_not_known():
    inside, affine = ball(10, (1.0, 1.0, 1.0))
    features = measure_tumour(inside.astype(np.uint8) * 2, affine, CENTRE, TARGETS)
    assert features["TC_ml"] == features["TC_surface_cm2"] == features["TC_components"] == 0
    assert np.isnan([features["TC_sphericity"], features["ET_of_TC"]]).all()
    nothing = measure_tumour(np.zeros((4, 4, 4), np.uint8), affine, CENTRE, TARGETS)
    unknown = {name for name, value in nothing.items() if np.isnan(value)}
    assert unknown == {"ED_of_WT", "ET_of_WT", "ET_of_TC", "TC_sphericity", "WT_sphericity", "centre_mm", "midline_mm"}
    assert set(nothing) == {feature.name for feature in FEATURES}
    assert {nothing[name] for name in set(nothing) - unknown} == {0}


def test_smoothing_takes_the_roughness_off(rng):
    inside, _ = ball(20, (1.0, 1.0, 1.0))
    rough = inside.copy()
    border = smooth_border(inside, (1, 1, 1))
    pad = (border.shape[0] - inside.shape[0]) // 2
    shell = inside ^ np.roll(inside, 1, 0)
    rough[shell & (rng.random(inside.shape) < 0.5)] ^= True
    assert surface_area(rough, (1, 1, 1)) > 1.05 * surface_area(inside, (1, 1, 1))
    assert surface_area(smooth_border(rough, (1, 1, 1)), (1, 1, 1)) == pytest.approx(
        surface_area(border, (1, 1, 1)), rel=0.02
    )
    assert pad == 5


def test_every_feature_is_measured():
    assert set(measure_tumour(*lumpy((2.0, 2.0, 2.0)), CENTRE, TARGETS)) == {feature.name for feature in FEATURES}


def test_a_data_set_of_other_tissues_is_refused_by_name():
    targets = {"NCR": [1], "ED": [2], "ET": [3], "TC": [1, 3], "WT": [1, 2, 3]}
    require_targets(targets)
    with pytest.raises(ValueError, match="but the data set declares no NCR, TC; declare them under `data_segmentation"):
        require_targets({name: labels for name, labels in targets.items() if name not in ("NCR", "TC")})
