"""Frame preparation and features of a video."""

import threading

import cv2
import numpy as np
import pytest
import torch

from flsl_bench.errors import ConfigError, DataError
from flsl_bench.probes import video_features
from flsl_bench.probes.video_features import FrameFeatures, frame_size, read_frame

SIZES = {"short_side": 64, "size_multiple": 16, "mean": (0.485, 0.456, 0.406), "std": (0.228, 0.224, 0.225)}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 854), (480, 832)),
        ((480, 910), (480, 896)),
        ((1080, 1920), (480, 832)),
        ((854, 480), (832, 480)),
        ((300, 300), (480, 448)),
    ],
)
def test_frame_size(size, expected):
    assert frame_size(size, 480, 64) == expected


def test_frames_are_rgb_and_resized_by_opencv(video):
    path = video[0][0]
    expected = cv2.cvtColor(cv2.resize(cv2.imread(str(path)), (80, 64)), cv2.COLOR_BGR2RGB)
    assert np.array_equal(read_frame(path, (70, 100), (64, 80)), expected)


@pytest.mark.parametrize("batch", [None, 1, 3, 99])
def test_features_are_the_normed_spatial_tokens_in_order(vit, video, batch):
    features = FrameFeatures(vit, video[0], **SIZES, batch=batch)
    assert (len(features), features.grid, features.size) == (5, (4, 5), (64, 80))
    mean, std = (torch.tensor(SIZES[name])[:, None, None] for name in ("mean", "std"))
    for path, feature in zip(video[0], features, strict=True):
        image = torch.from_numpy(read_frame(path, (70, 100), (64, 80))).permute(2, 0, 1) / 255
        with torch.no_grad():
            tokens = vit.tokens(((image - mean) / std)[None], [1], norm=True)[0][0, 1:]
        torch.testing.assert_close(feature, tokens.t().unflatten(1, (4, 5)), atol=1e-5, rtol=1e-4)
        assert not feature.requires_grad


def test_decoding_stays_two_batches_ahead_and_ends_with_the_reader(vit, video, monkeypatch):
    read = []
    monkeypatch.setattr(
        video_features, "read_frame", lambda path, *sizes: read.append(path) or np.zeros((64, 80, 3), np.uint8)
    )
    features = iter(FrameFeatures(vit, video[0] * 10, **SIZES, batch=2))
    next(features)
    features.close()
    assert len(read) <= 6
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("frames")]


def test_a_frame_of_another_size(vit, video, tmp_path):
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(DataError, match=r"small.png: \(20, 30\), the first frame is \(70, 100\) \(H, W\)"):
        list(FrameFeatures(vit, [*video[0], tmp_path / "small.png"], **SIZES))


def test_frames_that_cannot_be_read(vit, video, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken.jpg: no readable image; copy it again"):
        list(FrameFeatures(vit, [*video[0], tmp_path / "broken.jpg"], **SIZES))
    with pytest.raises(DataError, match=r"missing.jpg: no such frame"):
        FrameFeatures(vit, [tmp_path / "missing.jpg"], **SIZES)
    with pytest.raises(DataError, match="no frames"):
        FrameFeatures(vit, [], **SIZES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch=0: give 1 or more"),
        (
            {"short_side": 60},
            "frames of 80x60 are not whole patches of 16; choose multiples of 16 in place of short_side=60",
        ),
        ({"size_multiple": 200}, "frames of 0x64 are not whole patches"),
    ],
)
def test_unusable_sizes(vit, video, options, message):
    with pytest.raises(ConfigError, match=message):
        FrameFeatures(vit, video[0], **SIZES | options)
