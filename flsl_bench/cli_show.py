"""`flsl-bench show`: pictures of features, of predictions and of masks."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from flsl_bench.cli_options import Branch, ClassToken, Heads
from flsl_bench.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from flsl_bench.probes.image_features import PatchFeatures

show_app = typer.Typer(no_args_is_help=True, help="Pictures: of what tokens hold, of predictions, of DAVIS masks.")

Images = Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")]
Weights = Annotated[Path, typer.Option("--checkpoint", metavar="FILE", help="The weights, in any known layout.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Gets the pictures and their index, panels.json.")]
Layer = Annotated[int, typer.Option(help="Block, 0-based; negative ones count from the last.")]
Facet = Annotated[str, typer.Option(help="token, or query, key, value of the block's attention.")]
ShortSide = Annotated[int, typer.Option(min=1, help="Pixels of the short side that the ViT sees.")]
Points = Annotated[
    list[str] | None, typer.Option("--point", metavar="X,Y", help="A pixel of the image; may be repeated.")
]
Temperature = Annotated[float, typer.Option(help="Of the softmax over cosine similarities (the suite's choice).")]
Dump = Annotated[Path, typer.Option(metavar="FILE.pkl", help="What tools/test.py --out wrote; no code in it is run.")]
Count = Annotated[int, typer.Option(min=1, help="Images to draw, the first of the file.")]


@show_app.command()
def pca(
    images: Images,
    checkpoint: Weights,
    out: Out,
    one_basis: Annotated[
        bool, typer.Option("--one-basis", help="Equal colours mean equal tokens across images.")
    ] = False,
    layer: Layer = -1,
    facet: Facet = "token",
    short_side: ShortSide = 448,
    branch: Branch = None,
    num_heads: Heads = None,
    class_token: ClassToken = None,
) -> None:
    """The first three principal components of the patch tokens as red, green and blue, beside the image.

    Example: flsl-bench show pca --checkpoint flsl_vits16.pth --out pictures a.jpg b.jpg --one-basis
    """
    from flsl_bench.pictures import canvas
    from flsl_bench.pictures import features as draw

    found = _features(images, checkpoint, layer, facet, short_side, branch, num_heads, class_token)
    title = "PCA of the patch tokens" + (", one basis" if one_basis else "")
    for group in [list(found)] if one_basis else ([one] for one in found):
        for one, picture in zip(group, draw.pca([one.features for one in group]), strict=True):
            _write(out, title, one.caption, canvas.beside(one.image, picture))


@show_app.command()
def kmeans(
    images: Images,
    checkpoint: Weights,
    out: Out,
    clusters: Annotated[int, typer.Option(help="2 to 10.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Of the first centres.")] = 0,
    layer: Layer = -1,
    facet: Facet = "token",
    short_side: ShortSide = 448,
    branch: Branch = None,
    num_heads: Heads = None,
    class_token: ClassToken = None,
) -> None:
    """The k-means clusters of the patch tokens of each image, over the image.

    Example: flsl-bench show kmeans --checkpoint flsl_vits16.pth --out pictures --clusters 5 a.jpg
    """
    from flsl_bench.pictures import features as draw

    found = _features(images, checkpoint, layer, facet, short_side, branch, num_heads, class_token)
    title = f"k-means of the patch tokens, {clusters} clusters"
    for one in found:
        _write(out, title, one.caption, draw.segments(one.features, one.image, clusters, seed))


@show_app.command()
def mean_shift(
    images: Images,
    checkpoint: Weights,
    out: Out,
    point: Points = None,
    temperature: Temperature = 0.1,
    layer: Layer = -1,
    facet: Facet = "token",
    short_side: ShortSide = 448,
    branch: Branch = None,
    num_heads: Heads = None,
    class_token: ClassToken = None,
) -> None:
    """The mode that every patch shifts to, and the assignment of points, or of a grid of them, to all patches.

    Example: flsl-bench show mean-shift --checkpoint flsl_vits16.pth --out pictures --point 200,150 a.jpg
    """
    from flsl_bench.pictures import canvas
    from flsl_bench.pictures import features as draw

    points = _points(point)
    found = _features(images, checkpoint, layer, facet, short_side, branch, num_heads, class_token)
    for one in found:
        modes = draw.modes(one.features, temperature)
        _write(out, "Mean shift: the mode of each patch", one.caption, canvas.beside(one.image, modes))
        for place in points:
            picture = draw.assignment(one.features, place, temperature)
            _write_of_point(out, "Mean shift: assignment of a patch", one, place, picture)
        if not points:
            grid = draw.assignments(one.features, temperature=temperature)
            _write(out, "Mean shift: assignments of a grid of patches", one.caption, grid)


@show_app.command()
def similarity(
    images: Images,
    checkpoint: Weights,
    out: Out,
    point: Points = None,
    layer: Layer = -1,
    facet: Facet = "token",
    short_side: ShortSide = 448,
    branch: Branch = None,
    num_heads: Heads = None,
    class_token: ClassToken = None,
) -> None:
    """Cosine similarity of the patch under a point (by default the middle) to all patches, beside the image.

    Example: flsl-bench show similarity --checkpoint flsl_vits16.pth --out pictures --point 200,150 --point 30,40 a.jpg
    """
    from flsl_bench.pictures import features as draw

    points = _points(point)
    found = _features(images, checkpoint, layer, facet, short_side, branch, num_heads, class_token)
    for one in found:
        width, height = one.features.image_size
        for place in points or [(width / 2, height / 2)]:
            picture = draw.similarity(one.features, place)
            _write_of_point(out, "Cosine similarity to a patch", one, place, picture)


@show_app.command()
def detections(
    predictions: Dump,
    out: Out,
    annotations: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="COCO JSON that names the classes.")
    ] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Least score that is drawn.")] = 0.5,
    count: Count = 16,
) -> None:
    """Boxes with class and score, and masks, of a detector's predictions over their images.

    Example: flsl-bench show detections --predictions p.pkl --annotations instances_val2017.json --out pictures
    """
    from flsl_bench.pictures.predictions import category_names, draw_detections, read_predictions

    names = category_names(annotations) if annotations else []
    samples = read_predictions(predictions, "pred_instances")[:count]
    captions = _captions([one["img_path"] for one in samples])
    for one, caption in zip(samples, captions, strict=True):
        picture = draw_detections(one, names, threshold)
        _write(out, f"Detections of score {threshold:g} and more", caption, picture)


@show_app.command()
def segmentation(predictions: Dump, out: Out, count: Count = 16) -> None:
    """The label maps of a segmentor's predictions (ADE20K's 150 classes) over their images, with a legend.

    Example: flsl-bench show segmentation --predictions p.pkl --out pictures
    """
    from flsl_bench.pictures.predictions import draw_segmentation, read_predictions

    samples = read_predictions(predictions, "pred_sem_seg")[:count]
    captions = _captions([one["img_path"] for one in samples])
    for one, caption in zip(samples, captions, strict=True):
        _write(out, "Segmentation", caption, draw_segmentation(one))


@show_app.command()
def masks(
    davis_root: Annotated[Path, typer.Option(metavar="DIR", help="Holds JPEGImages and Annotations.")],
    masks: Annotated[Path, typer.Option(metavar="DIR", help="Holds <sequence>/00000.png ...")],
    sequence: Annotated[str, typer.Option(metavar="NAME")],
    out: Out,
) -> None:
    """DAVIS masks over the first, the middle and the last frame of a sequence.

    Example: flsl-bench show masks --davis-root data/DAVIS --masks work_dirs/davis/m --sequence bike-packing --out p
    """
    from flsl_bench.datasets import davis
    from flsl_bench.pictures.video_masks import write_panels

    for path in write_panels(sequence, davis.sequence(davis_root, sequence).images(), masks / sequence, out):
        print(path)


class _Image(NamedTuple):
    caption: str
    image: "np.ndarray"
    features: "PatchFeatures"


def _features(
    images: list[Path],
    checkpoint: Path,
    layer: int,
    facet: str,
    short_side: int,
    branch: str | None,
    num_heads: int | None,
    class_token: bool | None,
) -> Iterator[_Image]:
    """The images with their features, which are made on a GPU if there is one."""
    import torch

    from flsl_bench.checkpoints import load_checkpoint
    from flsl_bench.pictures.canvas import read_picture
    from flsl_bench.probes.image_features import FeatureOptions, ImageFeatures, Resize
    from flsl_bench.tasks.weights import vit_of

    options = FeatureOptions(layer=layer, facet=facet, view=Resize(short_side))
    loaded = load_checkpoint(checkpoint, branch=branch, num_heads=num_heads, class_token=class_token)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = ImageFeatures(vit_of(loaded), loaded.facts.sha256, options, device=device).many(images)
    for path, caption, features in zip(images, _captions(images), found, strict=True):
        yield _Image(caption, read_picture(path), features)


def _points(given: list[str] | None) -> list[tuple[float, float]]:
    try:
        return [(float(x), float(y)) for x, y in (word.split(",") for word in given or [])]
    except ValueError:
        raise ConfigError(f"--point {' '.join(given)}: write X,Y in pixels of the image, e.g. 200,150") from None


def _captions(paths: Sequence[str | Path]) -> list[str]:
    """Names of the images, with their folder where the images are of several, or with all that tells them apart."""
    from flsl_bench.pictures.canvas import caption_of

    folders = {Path(path).parent for path in paths}
    captions = [caption_of(path, None if len(folders) == 1 else "") for path in paths]
    return captions if len(set(captions)) == len(set(map(str, paths))) else [Path(path).as_posix() for path in paths]


def _write_of_point(out: Path, title: str, one: _Image, point: tuple[float, float], picture: "np.ndarray") -> None:
    """Write the map of a point beside the image, in which the point is marked too."""
    from flsl_bench.pictures import canvas

    place = canvas.scaled_point(point, one.features.image_size, one.image.shape[1::-1])
    both = canvas.beside(canvas.marked(one.image, place), picture)
    _write(out, title, f"{one.caption} at {point[0]:g},{point[1]:g}", both)


def _write(out: Path, title: str, caption: str, picture: "np.ndarray") -> None:
    from flsl_bench.pictures.panels import add_panel

    print(add_panel(out, title, caption, picture))
