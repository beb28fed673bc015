import cv2
import numpy as np
import pytest
from support import real

from brain_tumor.data.common.bounding_box import BoundingBox
from brain_tumor.data.images.borders import cut, find_box
from brain_tumor.data.images.class_folders import read_image


def head(height=400, width=360, at=(60, 320, 70, 290)):
    """An ellipse with some texture on black."""
    image = np.zeros((height, width), np.uint8)
    top, bottom, left, right = at
    rows, columns = np.mgrid[:height, :width]
    inside = ((rows - (top + bottom - 1) / 2) / ((bottom - top) / 2)) ** 2 + (
        (columns - (left + right - 1) / 2) / ((right - left) / 2)
    ) ** 2 <= 1
    image[inside] = (120 + 40 * np.sin(rows / 9) * np.cos(columns / 7))[inside]
    return image, BoundingBox(*at)


def overlap(a, b):
    """Intersection over union."""
    tall, wide = min(a.bottom, b.bottom) - max(a.top, b.top), min(a.right, b.right) - max(a.left, b.left)
    both = max(0, tall) * max(0, wide)
    return both / (sum((box.bottom - box.top) * (box.right - box.left) for box in (a, b)) - both)


@pytest.mark.parametrize("level", [255, 128, 60])
@pytest.mark.parametrize("width", [1, 5, 50])
def test_frames_of_any_level_are_cut_away(level, width):
    image, box = head()
    framed = np.pad(image, width, constant_values=level)
    assert overlap(find_box(framed), BoundingBox(*(side + width for side in box))) > 0.97
    inset = image.copy()
    cv2.rectangle(inset, (10, 10), (349, 389), level, min(width, 20))
    assert overlap(find_box(inset), box) > 0.97


def test_frame_on_one_side_only():
    image, box = head()
    image[-12:] = 255
    assert overlap(find_box(image), box) > 0.97


def test_writing_in_the_corners_is_cut_away_and_a_second_blob_is_not():
    image, box = head()
    written = image.copy()
    for place in ((4, 20), (270, 20), (4, 390)):
        cv2.putText(written, "SE 4 R", place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 230, 1)
    assert overlap(find_box(written), box) > 0.97
    second = image.copy()
    second[340:390, 10:110] = 90
    assert overlap(find_box(second), BoundingBox(60, 390, 10, 290)) > 0.97


def test_nothing_to_cut_and_nothing_to_see():
    image, _ = head(200, 200, (0, 200, 0, 200))
    assert overlap(find_box(image), BoundingBox(0, 200, 0, 200)) > 0.97
    assert find_box(np.zeros((100, 120), np.uint8)) is None
    noise = np.random.default_rng(0).integers(0, 9, (300, 300)).astype(np.uint8)
    assert find_box(noise) is None


def test_faint_head_is_found():
    image, box = head()
    assert overlap(find_box((image * 0.25).astype(np.uint8) + 3), box) > 0.97


def test_padding_keeps_the_aspect_and_stretching_fills():
    image, box = head()
    padded, stretched = cut(image, box, 128, "pad"), cut(image, box, 128, "stretch")
    assert padded.shape == stretched.shape == (128, 128)
    assert (padded[:, :6] == 0).all()
    wide = np.flatnonzero((padded > 0).any(0))
    assert (wide[-1] - wide[0] + 1) / 128 == pytest.approx(220 / 260, abs=0.02)
    assert (stretched > 0).any(0).all()
    assert (cut(image, None, 64) > 0).any()
    assert cut(image[:3, :2], None, 64, "stretch").shape == (64, 64)


def _known_boxes(count):
    """Real images whose margins are black on all sides, so that the box of what is not black is beyond doubt."""
    found = []
    for file in sorted(real("brain-tumor-mri-dataset").rglob("*.jpg"))[::9]:
        image = read_image(file).grey
        rows, columns = (np.flatnonzero((image > 40).sum(axis) >= 3) for axis in (1, 0))
        faint = [np.flatnonzero((image > 8).sum(axis) >= 3) for axis in (1, 0)]
        if rows.size and all(
            abs(a[end] - b[end]) <= 3 for a, b in zip((rows, columns), faint, strict=True) for end in (0, -1)
        ):
            box = BoundingBox(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
            if min(box.top, box.left, image.shape[0] - box.bottom, image.shape[1] - box.right) > 6:
                found.append((image, box))
    assert len(found) >= count, len(found)
    return found[:count]


def test_frames_on_real_images():
    """White and grey frames around or inside the margin, thin and thick, saved as JPEG.

    The box of the head is found all the same.
    """
    rng = np.random.default_rng(0)
    overlaps = []
    for k, (image, box) in enumerate(_known_boxes(40)):
        width, level = int(rng.integers(2, 60)), (255, 255, 128, 235)[k % 4]
        sides = [width if k % 3 else 0, width, width, width if k % 5 else 0]
        framed = np.pad(image, (sides[:2], sides[2:]), constant_values=level)
        saved = cv2.imdecode(cv2.imencode(".jpg", framed, [cv2.IMWRITE_JPEG_QUALITY, 85])[1], cv2.IMREAD_GRAYSCALE)
        truth = BoundingBox(box.top + sides[0], box.bottom + sides[0], box.left + sides[2], box.right + sides[2])
        overlaps.append(overlap(find_box(saved), truth))
    assert np.mean(overlaps) >= 0.97
    assert min(overlaps) > 0.85
