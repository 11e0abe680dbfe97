"""`flsl-bench show`: every command writes panels and prints their paths; errors are one line."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from flsl_bench import cli
from flsl_bench.datasets.davis import write_mask
from flsl_bench.demo import write_checkpoint
from flsl_bench.pictures.panels import find_panels


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "flsl.pth"
    return write_checkpoint(path, embed_dim=64, depth=2, num_heads=2, patch_size=16)


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / "one" / "a.png", tmp_path / "two" / "a.png"]
    for path, (height, width) in zip(paths, [(40, 100), (90, 60)], strict=True):
        path.parent.mkdir()
        Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(path)
    return paths


def show(out, *arguments):
    """Titles and captions of the panels that the command left; it must print their paths."""
    answer = CliRunner().invoke(cli.app, ["show", *map(str, arguments), "--out", str(out)], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    panels = find_panels(out)
    assert [Path(line) for line in answer.output.split("\n")[:-1]] == [panel.file for panel in panels]
    return [(panel.title, panel.caption) for panel in panels]


def sizes(out):
    return [Image.open(panel.file).size for panel in find_panels(out)]


@pytest.mark.parametrize("one_basis", [False, True])
def test_pca(weights, images, tmp_path, one_basis):
    options = ["--short-side", 64, *(["--one-basis"] if one_basis else [])]
    found = show(tmp_path / "out", "pca", *images, "--checkpoint", weights, *options)
    title = "PCA of the patch tokens" + (", one basis" if one_basis else "")
    assert found == [(title, "one/a.png"), (title, "two/a.png")]
    assert sizes(tmp_path / "out") == [(206, 40), (126, 90)]  # image, gap, picture


def test_kmeans(weights, images, tmp_path):
    found = show(tmp_path / "out", "kmeans", images[0], "--checkpoint", weights, "--short-side", 64, "--clusters", 3)
    assert found == [("k-means of the patch tokens, 3 clusters", "a.png")]
    assert sizes(tmp_path / "out") == [(100, 40)]


def test_mean_shift(weights, images, tmp_path):
    common = ["mean-shift", images[0], "--checkpoint", weights, "--short-side", 64]
    modes, grid = show(tmp_path / "grid", *common)
    assert modes == ("Mean shift: the mode of each patch", "a.png")
    assert grid == ("Mean shift: assignments of a grid of patches", "a.png")
    found = show(tmp_path / "points", *common, "--point", "10,20", "--point", "99,0")
    assert found[1:] == [
        ("Mean shift: assignment of a patch", "a.png at 10,20"),
        ("Mean shift: assignment of a patch", "a.png at 99,0"),
    ]


def test_similarity_of_a_facet(weights, images, tmp_path):
    options = ["--facet", "key", "--layer", 0, "--short-side", 64]
    found = show(tmp_path / "out", "similarity", images[1], "--checkpoint", weights, *options)
    assert found == [("Cosine similarity to a patch", "a.png at 30,45")]


def test_predictions(images, tmp_path):
    instances = {"bboxes": torch.tensor([[2.0, 2, 30, 30]]), "scores": torch.ones(1), "labels": torch.zeros(1).long()}
    samples = [
        {
            "img_path": str(path),
            "ori_shape": shape,
            "pred_instances": instances,
            "pred_sem_seg": {"data": torch.zeros(1, *shape).long()},
        }
        for path, shape in zip(images, [(40, 100), (90, 60)], strict=True)
    ]
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(samples))
    (tmp_path / "names.json").write_text('{"categories": [{"id": 1, "name": "cat"}]}')
    options = ["--predictions", tmp_path / "p.pkl"]
    found = show(tmp_path / "d", "detections", *options, "--annotations", tmp_path / "names.json")
    assert found == [("Detections of score 0.5 and more", f"{name}/a.png") for name in ("one", "two")]
    assert show(tmp_path / "s", "segmentation", *options, "--count", 1) == [("Segmentation", "a.png")]


def test_masks_of_a_sequence(tmp_path):
    root = tmp_path / "DAVIS"
    for number in range(5):
        for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
            path = root / folder / "480p" / "cow" / f"{number:05d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if suffix == "jpg":
                Image.new("RGB", (40, 30), (50, 50, 50)).save(path)
            else:
                write_mask(path, np.eye(30, 40, dtype=np.uint8))
    options = ["--davis-root", root, "--masks", root / "Annotations" / "480p", "--sequence", "cow"]
    found = show(tmp_path / "out", "masks", *options)
    assert found == [("DAVIS 2017: propagated masks", f"cow, frame 0000{k}") for k in (0, 2, 4)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["similarity", "--point", "1;2"], "--point 1;2: write X,Y in pixels of the image"),
        (["similarity", "--point", "100,0"], "point 100,0: not in the image of 100 x 40 pixels"),
        (["kmeans", "--clusters", "20"], "clusters=20: give 2..10"),
        (["mean-shift", "--temperature", "0"], "temperature=0.0: give a number above 0"),
        (["pca", "--layer", "9"], "layer=9: the ViT has 2 blocks"),
    ],
)
def test_errors_are_one_line_and_code_2(weights, images, tmp_path, monkeypatch, capsys, options, told):
    arguments = [*options, images[0], "--checkpoint", weights, "--out", tmp_path / "out", "--short-side", 64]
    monkeypatch.setattr(sys, "argv", ["flsl-bench", "show", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and told in line
