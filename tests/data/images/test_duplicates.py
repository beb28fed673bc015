import numpy as np
import pytest
from support import real

from brain_tumor.data.common.parallel import WorkerSettings, parallel_map
from brain_tumor.data.common.sets import join_groups
from brain_tumor.data.images.borders import cut, find_box
from brain_tumor.data.images.class_folders import ImageSet, find_images, read_image
from brain_tumor.data.images.duplicates import (
    FLIPS,
    VIEW,
    DuplicateSettings,
    compare,
    find_candidates,
    find_near_duplicates,
    flipped,
    perceptual_hash,
)
from brain_tumor.data.images.image_index import inspect_images
from brain_tumor.data.simulation.images import CHANGES, CLASSES, simulate_slice

REAL = ImageSet(name="real", classes=CLASSES)
SETTINGS = DuplicateSettings()


def view(grey):
    return cut(grey, find_box(grey), VIEW)


@pytest.fixture(scope="module")
def heads():
    """Twelve simulated heads, as published ones are."""
    rngs = [np.random.default_rng([3, k]) for k in range(12)]
    return [np.rint(230 * simulate_slice(CLASSES[k % 4], rng)).astype(np.uint8) for k, rng in enumerate(rngs)]


def test_hash_of_a_flipped_image_is_found_without_looking_at_it(heads):
    views = [view(heads[0]), *(flipped(view(heads[0]), flip) for flip in (1, 2, 3))]
    found = find_candidates(
        np.array([perceptual_hash(v) for v in views]),
        np.stack(views),
        SETTINGS.model_copy(update={"distance": 0, "correlation": 2}),
    )
    assert {(p.first, p.second): p.flip for p in found.itertuples()} == {
        (0, 1): 1,
        (0, 2): 2,
        (0, 3): 3,
        (1, 2): 3,
        (1, 3): 2,
        (2, 3): 1,
    }


@pytest.mark.parametrize("how", CHANGES)
def test_whatever_is_done_to_a_copy_it_is_found_and_others_are_not(heads, how, rng):
    changed = [view(CHANGES[how](head, rng)) for head in heads]
    views = np.stack([*map(view, heads), *changed])
    pairs = find_near_duplicates(
        np.array([perceptual_hash(v) for v in views]), views, SETTINGS, WorkerSettings(workers=1)
    )
    same = pairs[pairs["similarity"] >= SETTINGS.similarity]
    assert set(zip(same["first"], same["second"], strict=True)) == {(k, k + 12) for k in range(12)}
    if how == "mirrored":
        assert set(same["flip"]) == {FLIPS.index("mirrored")}


def test_what_has_nothing_in_common_is_no_error(rng):
    noise = rng.integers(0, 255, (VIEW, VIEW)).astype(np.uint8)
    assert compare(np.zeros((VIEW, VIEW), np.uint8), noise) == 0
    assert compare(noise, rng.integers(0, 255, (VIEW, VIEW)).astype(np.uint8)) < 0.3


def test_groups_by_hand():
    assert join_groups(6, np.array([0, 4, 2]), np.array([1, 2, 5])).tolist() == [0, 0, 1, 2, 1, 1]
    assert len(set(join_groups(3, np.array([], int), np.array([], int)))) == 3


def test_the_published_set_holds_216_test_images_that_are_in_training_too():
    source = real("brain-tumor-mri-dataset")
    images = find_images(source, REAL)
    parts = [(images[start : start + 256], source) for start in range(0, len(images), 256)]
    index = np.concatenate(
        [
            rows[["folder", "hash", "excluded"]]
            for rows, _ in parallel_map(inspect_images, parts, WorkerSettings(), "inspecting")
        ]
    )
    assert len(index) == 7023
    assert set(index[:, 2]) == {""}
    assert len(set(index[:, 1])) == 6597
    training = set(index[index[:, 0] == "Training", 1])
    assert sum(hash_ in training for hash_ in index[index[:, 0] == "Testing", 1]) == 216


@pytest.mark.parametrize(
    ("first", "second", "flip", "copy"),
    [
        ("Testing/meningioma/Te-me_0156.jpg", "Testing/pituitary/Te-piTr_0002.jpg", "mirrored", True),  # of two classes
        ("Training/meningioma/Tr-me_0129.jpg", "Testing/meningioma/Te-me_0165.jpg", "mirrored", True),
        ("Training/notumor/Tr-no_0740.jpg", "Testing/notumor/Te-no_0168.jpg", "as it is", True),  # sharpened
        ("Training/notumor/Tr-no_0477.jpg", "Training/notumor/Tr-no_0924.jpg", "turned by 180 degrees", True),
        ("Training/glioma/Tr-gl_0224.jpg", "Training/glioma/Tr-gl_0225.jpg", "as it is", False),  # neighbouring slices
        ("Training/pituitary/Tr-pi_0766.jpg", "Training/pituitary/Tr-pi_0773.jpg", "as it is", False),
    ],
)
def test_real_pairs_that_were_looked_at(first, second, flip, copy):
    source = real("brain-tumor-mri-dataset")
    one, other = (view(read_image(source / file).grey) for file in (first, second))
    assert (compare(one, flipped(other, FLIPS.index(flip))) >= SETTINGS.similarity) == copy


@pytest.mark.parametrize(
    ("testing", "training", "flip"),
    [
        ("pituitary/Te-pi_0080.jpg", "pituitary/Tr-pi_0410.jpg", "mirrored"),  # 18 bits apart
        ("pituitary/Te-pi_0187.jpg", "pituitary/Tr-pi_0653.jpg", "mirrored"),
        ("notumor/Te-no_0229.jpg", "notumor/Tr-no_0940.jpg", "turned by 180 degrees"),
    ],
)
def test_real_copies_whose_hashes_differ_much_are_found_by_their_thumbnails(testing, training, flip):
    source = real("brain-tumor-mri-dataset")
    views = np.stack([view(read_image(source / file).grey) for file in (f"Testing/{testing}", f"Training/{training}")])
    hashes = np.array([perceptual_hash(v) for v in views])
    found = find_near_duplicates(hashes, views, SETTINGS, WorkerSettings(workers=1))
    (copy,) = found[found["similarity"] >= SETTINGS.similarity].itertuples()
    assert (copy.flip, copy.distance > SETTINGS.distance) == (FLIPS.index(flip), True)
