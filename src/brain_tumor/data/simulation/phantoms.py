"""Simulated patients: ICBM152 anatomy with a tumour grown in it, seen in four MRI contrasts."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy  # its parts are imported when used
from jaxtyping import Float, Int16, UInt8

GRID = (155, 240, 240)
"""The BraTS grid as (slice, row, column), 1 mm, orientation S, L, P.

Rows run to the patient's left, columns to the back.
"""

MIDDLE_SLICE = 76
"""Slice through the middle of the brain."""

MIDDLE_PIXEL = 119.5
"""Row and column in the middle of a slice: pixel centres are counted from 0 to 239."""

SEMI_AXES = np.array([80, 98, 84], np.float32).reshape(3, 1, 1, 1)
"""Half the width, length and height of an ellipsoid that holds any deformed brain, in millimetres."""

MODALITIES = ("FLAIR", "T1", "T1ce", "T2")
TISSUES = ("NCR", "ED", "ET")

# Relative signal of each tissue in FLAIR, T1, T1ce, T2.
SIGNAL = {
    "CSF": (0.14, 0.18, 0.18, 0.98),
    "GM": (0.56, 0.50, 0.52, 0.58),
    "WM": (0.44, 0.76, 0.74, 0.40),
    "NCR": (0.48, 0.30, 0.28, 0.82),
    "ED": (0.78, 0.50, 0.50, 0.80),
    "ET": (0.66, 0.46, 1.00, 0.62),
}

# Enhancing tumour around the necrosis is thicker in high grades, as a part of the core's radius.
RIM = {"HGG": (0.12, 0.35), "LGG": (0.02, 0.15)}

# Oedema reaches farther in high grades, in millimetres from the core.
REACH = {"HGG": (6, 24), "LGG": (2, 12)}


@dataclass(frozen=True)
class Phantom:
    """One simulated patient, at the slices asked for.

    Attributes:
        grade: "HGG" or "LGG".
        age: years.
        slices: int (n,), slice numbers on the BraTS grid.
        image: int16 (n, 4, 240, 240), raw intensities of FLAIR, T1, T1ce, T2; 0 outside the brain.
        labels: uint8 (n, 240, 240), 0 background, 1 NCR, 2 ED, 3 ET.
    """

    grade: str
    age: float
    slices: tuple[int, ...]
    image: Int16[np.ndarray, "n m h w"]
    labels: UInt8[np.ndarray, "n h w"]


def simulate_patient(slices: tuple[int, ...], rng: np.random.Generator) -> Phantom:
    """Draw one patient: anatomy, tumour, then what four sequences would show of them."""
    grade, age, head, tumour, labels = _draw_tumour(slices, rng)
    image = acquire(head, labels, tumour["core_distance"], age, rng)
    _, rows, columns = GRID
    canvas = np.zeros((len(slices), len(MODALITIES), rows, columns), np.int16)
    canvas[:, :, head.rows, head.columns] = image
    return Phantom(grade, age, slices, canvas, _place_labels(labels, head))


def simulate_mask(
    slices: tuple[int, ...],
    rng: np.random.Generator,
) -> tuple[str, float, UInt8[np.ndarray, "n h w"]]:
    """Grade, age and labels of the patient that `simulate_patient` would draw, in a third of its time."""
    grade, age, head, _, labels = _draw_tumour(slices, rng)
    return grade, age, _place_labels(labels, head)


def _draw_tumour(
    slices: tuple[int, ...],
    rng: np.random.Generator,
) -> tuple[str, float, "Head", dict[str, np.ndarray], np.ndarray]:
    grade = "HGG" if rng.random() < 0.75 else "LGG"
    # Patients with low-grade gliomas are younger.
    mean_age = 61 if grade == "HGG" else 45
    age = float(np.clip(rng.normal(mean_age, 11), 19, 86))
    head = Head(slices, rng)
    tumour = grow_tumour(head, grade, rng)
    labels = np.zeros(head.brain.shape, np.uint8)
    for label, tissue in enumerate(TISSUES, start=1):
        labels[tumour[tissue]] = label
    return grade, age, head, tumour, labels


def _place_labels(labels: np.ndarray, head: "Head") -> UInt8[np.ndarray, "n h w"]:
    _, rows, columns = GRID
    full = np.zeros((len(labels), rows, columns), np.uint8)
    full[:, head.rows, head.columns] = labels
    return full


class Head:
    """Tissue probabilities of one deformed head on the slices asked for, inside the window that holds the brain.

    Positions are millimetres (x to the right, y forward, z up) around the middle of the brain.
    """

    rows = slice(36, 204)
    columns = slice(18, 222)

    def __init__(
        self,
        slices: tuple[int, ...],
        rng: np.random.Generator,
        tumour: tuple[np.ndarray, float] | None = None,
    ) -> None:
        z = np.asarray(slices, np.float32) - MIDDLE_SLICE
        # Rows run to the left and columns to the back, x to the right and y forward.
        x = MIDDLE_PIXEL - np.arange(self.rows.start, self.rows.stop, dtype=np.float32)
        y = MIDDLE_PIXEL - np.arange(self.columns.start, self.columns.stop, dtype=np.float32)
        self.axes = (z, x, y)
        up, right, front = np.meshgrid(z, x, y, indexing="ij")
        self.position = np.stack([right, front, up])
        self.seed_centre, self.radius = tumour or draw_place(rng)
        atlas = self._to_atlas(rng)
        maps, centre = _atlas()
        # Positions outside the ellipsoid have no tissue, and interpolation takes time for each position.
        in_semi_axes = self.position / SEMI_AXES
        near = (in_semi_axes**2).sum(0) < 1
        index = atlas[:, near] + centre[:, None]
        sampled = [scipy.ndimage.map_coordinates(values, index, order=1) for values in maps]
        grey, white, brain = (self._place(values, near) for values in sampled)
        # Within slices alone: the slices asked for needn't be neighbours.
        square = np.ones((1, 3, 3))
        self.brain = scipy.ndimage.binary_opening(brain > 0.5, square)
        fluid = np.clip(brain - grey - white, 0, 1)
        # A power above 1 undoes some of the blur of an atlas averaged over 152 people.
        sharp = np.stack([fluid, grey, white]) ** 1.6
        total = np.maximum(sharp.sum(0), 1e-6)
        self.fluid, self.grey, self.white = sharp / total

    def _to_atlas(self, rng: np.random.Generator) -> np.ndarray:
        """Where in the atlas each position's tissue comes from: rotation, size, mass effect, smooth variation."""
        pitch, roll, yaw = rng.normal(0, np.radians(3), 3)
        scale = rng.normal(1.02, 0.03, 3)
        turn = (_rotation(pitch, roll, yaw) * scale).astype(np.float32)
        place = np.tensordot(turn, self.position, 1)
        away = subtract(place, self.seed_centre)
        distance = measure_length(away)
        # Tissue comes from nearer to the centre of the tumour, so it appears pushed away from it.
        relative = distance / (1.6 * self.radius)
        push = 0.22 * np.exp(-(relative**2))
        place = place - away * push
        wobble = np.stack([2.0 * self.noise(30, rng) for _ in range(3)])
        shift = rng.normal(0, 1.5, (3, 1, 1, 1)).astype(np.float32)
        return place + wobble + shift

    @staticmethod
    def _place(values: np.ndarray, near: np.ndarray) -> np.ndarray:
        image = np.zeros(near.shape, np.float32)
        image[near] = values
        return image

    def noise(self, scale: float, rng: np.random.Generator) -> Float[np.ndarray, "n h w"]:
        """Smooth noise of about unit deviation whose features are `scale` millimetres wide."""
        knots = [_place_knots(axis, scale) for axis in self.axes]
        # Splines average the knots: the squares of their weights sum to 151 / 315 an axis, so 2.9 becomes about 1.
        shape = [len(along) for along in knots]
        coarse = rng.normal(0, 2.9, shape).astype(np.float32)
        weights = []
        for axis, along in zip(self.axes, knots, strict=True):
            distance = (axis[:, None] - along) / scale
            weights.append(_bspline(distance))
        z, row, column = weights
        in_slices = np.tensordot(z, coarse, 1)
        return np.einsum("rj,sjk,ck->src", row, in_slices, column, optimize=True)


def subtract(
    positions: Float[np.ndarray, "3 n h w"],
    point: Float[np.ndarray, " 3"],
) -> Float[np.ndarray, "3 n h w"]:
    """Vectors from a point to each position."""
    return positions - point[:, None, None, None]


def measure_length(vectors: Float[np.ndarray, "3 n h w"]) -> Float[np.ndarray, "n h w"]:
    """Length of each vector."""
    return np.sqrt((vectors**2).sum(0))


def _place_knots(axis: np.ndarray, scale: float) -> np.ndarray:
    # A cubic B-spline reaches two knots to either side.
    return np.arange(axis.min() - scale, axis.max() + 2 * scale, scale, dtype=np.float32)


def _bspline(x: np.ndarray) -> np.ndarray:
    """The cubic B-spline basis function, with unit spacing of knots."""
    x = np.abs(x)
    inner = 2 / 3 - x**2 + x**3 / 2
    outer = np.maximum(2 - x, 0) ** 3 / 6
    return np.where(x < 1, inner, outer)


def _rotation(pitch: float, roll: float, yaw: float) -> np.ndarray:
    """3x3 rotation about x, then y, then z, angles in radians."""
    angles = [pitch, roll, yaw]
    c = np.cos(angles)
    s = np.sin(angles)
    about_x = np.array(
        [
            [1, 0, 0],
            [0, c[0], -s[0]],
            [0, s[0], c[0]],
        ]
    )
    about_y = np.array(
        [
            [c[1], 0, s[1]],
            [0, 1, 0],
            [-s[1], 0, c[1]],
        ]
    )
    about_z = np.array(
        [
            [c[2], -s[2], 0],
            [s[2], c[2], 0],
            [0, 0, 1],
        ]
    )
    return about_z @ about_y @ about_x


@lru_cache(maxsize=1)
def _atlas() -> tuple[list[np.ndarray], np.ndarray]:
    """ICBM152 grey matter, white matter and brain (1 mm, axes right, front, up), and the index of the brain's middle.

    Source: Fonov et al. 2011, as shipped with nilearn.
    """
    from nilearn import datasets as nilearn_datasets  # slow to import

    template = nilearn_datasets.load_mni152_template(resolution=1).get_fdata(dtype=np.float32)
    grey = nilearn_datasets.load_mni152_gm_template(resolution=1).get_fdata(dtype=np.float32)
    white = nilearn_datasets.load_mni152_wm_template(resolution=1).get_fdata(dtype=np.float32)
    mask = (template > 0).astype(np.float32)
    # The mask has steps of a voxel; smoothed, it can be interpolated.
    brain = scipy.ndimage.gaussian_filter(mask, 0.7)
    middle = []
    for other_axes in ((1, 2), (0, 2), (0, 1)):
        occupied = np.flatnonzero(brain.max(other_axes) > 0.5)
        ends = occupied[[0, -1]]
        middle.append(ends.mean())
    return [grey, white, brain], np.array(middle, np.float32)


def draw_place(rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Centre (millimetres from the middle of the brain) and radius of the tumour core, somewhere in the cerebrum."""
    side = rng.choice([-1, 1])
    right = side * rng.uniform(16, 46)
    front = rng.uniform(-58, 48)
    up = rng.uniform(-8, 42)
    radius = float(rng.uniform(9, 21))
    return np.array([right, front, up]).astype(np.float32), radius


def grow_tumour(head: Head, grade: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Masks of NCR, ED and ET, and the signed distance to the core's surface in millimetres (negative inside)."""
    stretch = rng.uniform(0.8, 1.3, (3, 1, 1, 1)).astype(np.float32)
    away = subtract(head.position, head.seed_centre) * stretch
    distance = measure_length(away)
    rough = head.noise(14, rng) + 0.5 * head.noise(6, rng)
    core_distance = distance + 0.16 * head.radius * rough - head.radius
    inside = head.brain & (head.fluid < 0.8)
    core = (core_distance < 0) & inside

    rim = head.radius * rng.uniform(*RIM[grade])
    necrosis = core_distance + 1.6 * head.noise(7, rng) < -rim
    if grade == "LGG" and rng.random() < 0.5:
        # Half of the low grades don't enhance: their cores are NCR throughout, as BraTS labels them.
        necrosis = np.ones_like(necrosis)
    islands = head.noise(5, rng) > 1.9
    enhancing = core & ~necrosis & ~islands

    reach = rng.uniform(*REACH[grade])
    # Oedema runs along white matter and stops at the cortex and the ventricles.
    spread = core_distance + 5.0 * rough - 10.0 * (head.white - 0.5)
    passable = (head.fluid < 0.5) & (head.white > 0.25)
    oedema = (spread < reach) & inside & ~core & passable
    # The opening removes specks. The core belongs to it, so that a narrow seam of oedema around the core stays.
    square = np.ones((1, 5, 5))
    opened = scipy.ndimage.binary_opening(oedema | core, square)
    oedema = opened & ~core
    return {"NCR": core & ~enhancing, "ED": oedema, "ET": enhancing, "core_distance": core_distance}


def acquire(
    head: Head,
    labels: np.ndarray,
    core_distance: np.ndarray,
    age: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Raw int16 intensities (n, 4, h, w) of the window.

    Contrast, look-alikes, blur, bias field, noise, scanner scale.
    """
    lesion = _lesion_fractions(labels, core_distance)
    texture = {tissue: head.noise(6, rng) for tissue in TISSUES}
    healthy = 1 - np.clip(sum(lesion.values()), 0, 1)
    hyperintense = _white_matter_lesions(head, age, rng)
    vessels = _vessels(head, rng)

    slices, rows, columns = head.brain.shape
    image = np.zeros((slices, len(MODALITIES), rows, columns), np.int16)
    for channel, modality in enumerate(MODALITIES):
        signal = _brain_signal(head, channel, rng)
        # Age-related lesions and vessels look like oedema and enhancing tumour, but have no label.
        if modality in ("FLAIR", "T2"):
            signal = signal + hyperintense * rng.uniform(0.25, 0.45)
        if modality == "T1ce":
            signal = signal + vessels * rng.uniform(0.25, 0.5)
        signal = healthy * signal
        for tissue in TISSUES:
            brightness = SIGNAL[tissue][channel]
            even = lesion[tissue] * brightness * rng.normal(1, 0.08)
            signal = signal + even * (1 + 0.12 * texture[tissue])
        raw = _scan(head, signal, rng)
        # Only the background is 0, as in BraTS: the brain is found by it.
        in_brain = np.maximum(np.rint(raw), 1)
        image[:, channel] = np.where(head.brain, in_brain, 0)
    return image


def _lesion_fractions(labels: np.ndarray, core_distance: np.ndarray) -> dict[str, np.ndarray]:
    """Fraction of each tumour tissue at each position, with soft edges."""
    fractions = {}
    for label, tissue in enumerate(TISSUES, start=1):
        mask = (labels == label).astype(np.float32)
        fractions[tissue] = scipy.ndimage.gaussian_filter(mask, (0, 0.8, 0.8))
    # Oedema thins out away from the core.
    outside_core = np.maximum(core_distance, 0)
    fade = np.clip(1.1 - outside_core / 50, 0.7, 1)
    fractions["ED"] = fractions["ED"] * fade
    return fractions


def _brain_signal(head: Head, channel: int, rng: np.random.Generator) -> np.ndarray:
    """What one sequence shows of the healthy brain, each tissue a little brighter or darker than usual."""
    fractions = {"CSF": head.fluid, "GM": head.grey, "WM": head.white}
    signal = np.zeros_like(head.fluid)
    for tissue, fraction in fractions.items():
        brightness = SIGNAL[tissue][channel]
        signal = signal + fraction * brightness * rng.normal(1, 0.05)
    return signal


def _scan(head: Head, signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A signal as a scanner gives it: blurred, with a bias field and noise, in units of its own."""
    row_blur = rng.uniform(0.4, 0.8)
    column_blur = rng.uniform(0.4, 0.8)
    signal = scipy.ndimage.gaussian_filter(signal, (0, row_blur, column_blur))
    # The logarithm of the bias field varies over the head, and a little within it.
    log_bias = 0.09 * head.noise(70, rng) + 0.03 * head.noise(25, rng)
    signal = signal * np.exp(log_bias)
    # The noise is Rician, as in magnitude images: normal in the real and the imaginary part.
    sigma = rng.uniform(0.015, 0.04)
    noise = rng.standard_normal((2, *signal.shape), np.float32)
    real, imaginary = sigma * noise
    magnitude = np.hypot(signal + real, imaginary)
    # MRI has no absolute unit: a logarithmically uniform scale covers what scanners give.
    least, most = np.log(250), np.log(1600)
    scale = np.exp(rng.uniform(least, most))
    return magnitude * scale


def _white_matter_lesions(head: Head, age: float, rng: np.random.Generator) -> np.ndarray:
    """Fraction of age-related bright white matter, which FLAIR and T2 show much like oedema."""
    # White matter beside the ventricles lies in their blur.
    blurred_fluid = scipy.ndimage.gaussian_filter(head.fluid, (0, 5, 5))
    near_ventricle = blurred_fluid * head.white
    # The threshold falls with age, so that patches become more and larger.
    bright = head.noise(7, rng) > 2.9 - age / 60
    patches = bright.astype(np.float32) * (head.white > 0.7)
    caps = np.clip((near_ventricle - 0.12) * age / 25, 0, 0.6)
    fraction = patches * 0.8 + caps
    return scipy.ndimage.gaussian_filter(fraction, (0, 1, 1))


def _vessels(head: Head, rng: np.random.Generator) -> np.ndarray:
    """Fraction of vessel: thin curves where two noise fields cross zero, and the sinus between the hemispheres."""
    # Each field is 0 on a surface, and two surfaces meet in curves.
    on_one = np.abs(head.noise(17, rng)) < 0.09
    on_other = np.abs(head.noise(19, rng)) < 0.12
    curves = on_one & on_other
    x, y, _ = head.position
    # The sagittal sinus runs in the fluid of the midline, at the back.
    midline = (np.abs(x) < 2.5) & (y < -40)
    sinus = midline & (head.fluid > 0.6)
    vessels = (curves | sinus).astype(np.float32)
    return scipy.ndimage.gaussian_filter(vessels, (0, 0.7, 0.7))
