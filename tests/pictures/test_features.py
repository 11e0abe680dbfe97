"""Pictures of features whose content is known: the picture shows it at the right pixels."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flsl_bench.errors import ConfigError
from flsl_bench.pictures import canvas, features
from flsl_bench.probes.image_features import Geometry, PatchFeatures, Resize, ResizeCenterCrop

SIZES = [(320, 160), (160, 320), (333, 200), (2000, 500)]


def halves(image_size, left=8, right=8):
    """Tokens e0 in the left patches and e1 in the others, a little disturbed."""
    geometry = Resize(160).geometry(image_size, 16)
    columns, rows = (side // 16 for side in geometry.input_size)
    tokens = torch.randn(8, rows, columns, generator=torch.Generator().manual_seed(0)) * 0.01
    edge = columns // 2
    tokens[0, :, :edge] += left
    tokens[1, :, edge:] += right
    return PatchFeatures(tokens, geometry), edge / columns


def blank(one):
    width, height = canvas.picture_size(one.image_size)
    return np.full((height, width, 3), 128, np.uint8)


def changes(picture):
    """Columns at which a row of the picture changes its colour, for all rows together."""
    return np.unique(np.nonzero((np.diff(picture.astype(int), axis=1) != 0).any(2))[1] + 1)


@pytest.mark.parametrize("image_size", SIZES)
def test_segments_change_at_the_right_column(image_size):
    one, edge = halves(image_size)
    picture = features.segments(one, blank(one), clusters=2)
    assert picture.shape[1::-1] == canvas.picture_size(image_size)
    (column,) = changes(picture)
    assert abs(column - edge * picture.shape[1]) <= 1
    assert (np.diff(picture.astype(int), axis=0) == 0).all()


@pytest.mark.parametrize("image_size", SIZES)
def test_modes_are_two_flat_halves(image_size):
    one, edge = halves(image_size)
    picture = features.modes(one)
    (column,) = changes(picture)
    assert abs(column - edge * picture.shape[1]) <= 1
    assert picture[0, 0].tolist() != picture[0, -1].tolist()


@pytest.mark.parametrize("image_size", SIZES)
@pytest.mark.parametrize("draw", [features.similarity, features.assignment])
def test_the_half_of_the_point_is_yellow_and_the_other_dark(draw, image_size):
    one, _ = halves(image_size)
    width, height = image_size
    yellow, dark = canvas.heat(np.array([[1.0, 0.0]]), 0, 1)[0].astype(int)
    for x, near, far in ((0.9, 0.7, 0.2), (0.1, 0.2, 0.7)):
        picture = draw(one, (x * width, height / 4)).astype(int)
        columns = [int(share * picture.shape[1]) for share in (near, far)]
        rows = slice(picture.shape[0] // 2, None)  # the mark is above
        assert np.abs(picture[rows, columns[0]] - yellow).mean() < 12
        assert np.abs(picture[rows, columns[1]] - dark).mean() < 12


def test_the_mark_is_at_the_point():
    one, _ = halves((2000, 500))
    picture = features.similarity(one, (1500, 100))
    assert picture.shape == (250, 1000, 3)
    assert picture[50, 750].tolist() == [255, 0, 0]


def test_similarity_equals_the_cosine_at_patch_centres():
    tokens = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1))
    one = PatchFeatures(tokens, Geometry((4 * 49, 3 * 49), (64, 48)))
    flat = tokens.flatten(1).T.numpy()
    flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    cosines = flat @ flat[1 * 4 + 2]  # the patch of column 2, row 1
    picture = features.similarity(one, (2.9 * 49, 1.1 * 49))
    expected = canvas.heat(cosines.reshape(3, 4), cosines.min(), 1.0)
    centres = picture[24::49, 24::49].astype(int)
    away = np.ones((3, 4), bool)
    away[1, 2] = False
    assert np.abs(centres - expected)[away].max() <= 1


@pytest.mark.parametrize("image_size", SIZES)
def test_the_first_component_tells_the_halves_apart(image_size):
    one, edge = halves(image_size)
    (picture,) = features.pca([one])
    assert picture.shape[1::-1] == canvas.picture_size(image_size)
    red = picture[..., 0].astype(int)
    margin = int(0.06 * picture.shape[1]) + 1
    column = int(edge * picture.shape[1])
    left, right = red[:, : column - margin], red[:, column + margin :]
    assert abs(left.mean() - right.mean()) > 200
    assert left.std() < 5 and right.std() < 5


def test_one_basis_gives_equal_tokens_equal_colours():
    a, _ = halves((320, 160))
    b = PatchFeatures(a.tokens.flip(2), a.geometry)
    both = features.pca([a, b])
    assert np.abs(both[0].astype(int) - both[1][:, ::-1]).max() <= 1


def test_pca_equals_the_singular_vectors():
    tokens = torch.randn(6, 9, 9, generator=torch.Generator().manual_seed(2))
    one = PatchFeatures(tokens, Geometry((9, 9), (144, 144)))
    points = tokens.flatten(1).T.double().numpy()
    centred = points - points.mean(0)
    axes = np.linalg.svd(centred)[2][:3]
    axes *= np.sign(axes[np.arange(3), np.abs(axes).argmax(1)])[:, None]
    components = centred @ axes.T
    low, high = np.percentile(components, [1, 99], axis=0)
    expected = (255 * (components - low) / (high - low)).clip(0, 255)
    (picture,) = features.pca([one])
    assert np.abs(picture.reshape(-1, 3) - expected).max() <= 0.51


def test_equal_tokens_are_grey_and_few_channels_do():
    geometry = Geometry((64, 32), (64, 32))
    (flat,) = features.pca([PatchFeatures(torch.ones(4, 2, 4), geometry)])
    assert (flat == 128).all()
    (narrow,) = features.pca([PatchFeatures(torch.randn(2, 2, 4), geometry)])
    assert (narrow[..., 2] == 128).all() and narrow[..., 0].std() > 0


def test_mean_shift_of_separate_groups_is_their_mean_direction():
    rng = np.random.default_rng(0)
    groups = [np.eye(6)[k] + rng.normal(0, 0.02, (20, 6)) for k in range(3)]
    points = torch.from_numpy(np.concatenate(groups))
    shifted = features.mean_shift(points, temperature=0.02).numpy()
    for k in range(3):
        part = shifted[20 * k : 20 * k + 20]
        assert np.abs(part - part[0]).max() < 1e-4
        assert np.abs(part[0] - np.eye(6)[k]).max() < 0.05


def test_one_step_equals_a_plain_loop():
    tokens = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    z = tokens.numpy() / np.linalg.norm(tokens.numpy(), axis=1, keepdims=True)
    weights = np.exp([z[3] @ other / 0.1 for other in z])
    one = PatchFeatures(tokens.T.reshape(4, 1, 7).float(), Geometry((7 * 49, 49), (112, 16)))
    picture = features.assignment(one, (3.5 * 49, 24))[24, 24::49].astype(int)
    expected = canvas.heat(weights[None], 0, np.quantile(weights, 0.99))[0]
    away = np.arange(7) != 3  # where the mark is not
    assert np.abs(picture - expected)[away].max() <= 1


def test_each_tile_of_the_grid_is_the_map_of_its_place():
    one, _ = halves((400, 300))
    picture = features.assignments(one, rows=3, columns=4).astype(int)
    yellow, dark = canvas.heat(np.array([[1.0, 0.0]]), 0, 1)[0]
    tile = (188, 250)  # of 400x300 at a quarter of the longest side
    assert picture.shape == (3 * tile[0] + 2 * 6, 4 * tile[1] + 3 * 6, 3)
    for column, expected in enumerate([(yellow, dark), (yellow, dark), (dark, yellow), (dark, yellow)]):
        for share, colour in zip((0.2, 0.8), expected, strict=True):
            pixel = picture[5, column * (tile[1] + 6) + int(share * tile[1])]
            assert np.abs(pixel - colour).max() < 40


@given(st.integers(1, 30), st.integers(2, 6), st.integers(0, 5))
def test_kmeans_is_a_fixed_point_sorted_by_size_and_repeats(count, clusters, seed):
    points = np.random.default_rng(seed).integers(0, 3, (count, 2)).astype(float)
    labels = features.kmeans(points, clusters, seed)
    assert np.array_equal(labels, features.kmeans(points, clusters, seed))
    sizes = np.bincount(labels, minlength=clusters)
    assert (np.diff(sizes) <= 0).all()
    used = np.nonzero(sizes)[0]
    centres = np.array([points[labels == k].mean(0) for k in used])
    distances = ((points[:, None] - centres) ** 2).sum(2)
    own = distances[np.arange(count), np.searchsorted(used, labels)]
    assert (own <= distances.min(1) + 1e-9).all()


def test_kmeans_finds_clear_groups():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(10 * k, 0.1, (10 + k, 3)) for k in range(4)])
    labels = features.kmeans(points, 4)
    assert labels.tolist() == [3] * 10 + [2] * 11 + [1] * 12 + [0] * 13


@pytest.mark.parametrize("point", [(-1, 0), (320, 10), (5, 160)])
def test_a_point_outside_is_an_error(point):
    one, _ = halves((320, 160))
    with pytest.raises(ConfigError, match="not in the image of 320 x 160 pixels"):
        features.similarity(one, point)


def test_other_errors():
    one, _ = halves((320, 160))
    with pytest.raises(ConfigError, match=r"clusters=11: give 2\.\.10"):
        features.segments(one, blank(one), clusters=11)
    with pytest.raises(ConfigError, match="temperature=0: give a number above 0"):
        features.modes(one, 0)
    cropped = PatchFeatures(torch.ones(4, 14, 14), ResizeCenterCrop().geometry((320, 160), 16))
    with pytest.raises(ConfigError, match="features of the whole image"):
        features.pca([cropped])
