"""The tables of the results: which sections and columns each has, and writing them to files."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from flsl_bench.files import atomic_write_text
from flsl_bench.results.record import Record
from flsl_bench.results.rendering import FORMATS, MISSING, Row, Score, Section, Table
from flsl_bench.results.reported import Figure
from flsl_bench.results.rows import NOISE, deviating_rows, mark_best, measured_rows, reported_rows

# Benchmark -> title, in the order of the table. Figures of two benchmarks are not comparable.
COCO_SECTIONS = {
    "coco_maskrcnn_vit_fpn_1x": "Mask R-CNN, plain ViT with rescaled taps and FPN, 1x (the protocol this suite runs)",
    "coco_cascade_maskrcnn_vit_1x": "Cascade Mask R-CNN, ViT, 1x (iBOT's protocol)",
    "coco_maskrcnn_r50_fpn_90k": "Mask R-CNN, ResNet-50 FPN, 90k iterations",
    "coco_maskrcnn_r50_fpn_180k": "Mask R-CNN, ResNet-50 FPN, 180k iterations",
    "coco_maskrcnn_r50_fpn_12k": "Mask R-CNN, ResNet-50 FPN, 12k iterations",
    "coco_maskrcnn_r50_c4_90k": "Mask R-CNN, ResNet-50 C4, 90k iterations",
    "coco_maskrcnn_r50_c4_180k": "Mask R-CNN, ResNet-50 C4, 180k iterations",
    "coco_maskrcnn_r50_c4_12k": "Mask R-CNN, ResNet-50 C4, 12k iterations",
    "coco_maskrcnn_r50_fpn_4conv1fc_90k": "Mask R-CNN, ResNet-50 FPN, 4conv1fc box head, 90k iterations",
    "coco_maskrcnn_r50_fpn_4conv1fc_1x_mmdet": "Mask R-CNN, ResNet-50 FPN, 4conv1fc box head, 1x in MMDetection",
    "coco_maskrcnn_r50_fpn_90k_insloc": "Mask R-CNN, ResNet-50 FPN, 90k iterations, InsLoc's variant",
    "miniature_coco_maskrcnn": "The demo: miniature COCO, a small Mask R-CNN; not COCO and not comparable with it",
}
_COCO_METRICS = ("box_AP", "box_AP50", "box_AP75", "mask_AP", "mask_AP50", "mask_AP75")

DEVIATING_TITLE = "Measured with a changed protocol; not comparable with the papers"


def coco_table(figures: Sequence[Figure], records: Sequence[Record]) -> Table:
    """COCO box and mask AP: a section a protocol, and a last one for records that changed theirs."""
    own = [record for record in records if record.task == "coco"]
    others = sorted({record.protocol.name for record in own if record.comparable} - COCO_SECTIONS.keys())
    return _table(
        "COCO: object detection and instance segmentation, AP in % on val2017",
        COCO_SECTIONS | {name: f"{name} (nothing reported)" for name in others},
        _COCO_METRICS,
        figures,
        own,
    )


TABLES: dict[str, Callable[[Sequence[Figure], Sequence[Record]], Table]] = {"coco": coco_table}


def write_tables(figures: Iterable[Figure], records: Iterable[Record], folder: str | os.PathLike) -> list[Path]:
    """Write every table in every format into `folder`; a file that would stay as it is is not touched.

    Returns:
        The files that were written.
    """
    figures, records = list(figures), list(records)
    written = []
    for name, build in TABLES.items():
        table = build(figures, records)
        for suffix, render in FORMATS.items():
            path, text = Path(folder) / f"{name}.{suffix}", render(table)
            if not path.is_file() or path.read_bytes() != text.encode():
                atomic_write_text(path, text)
                written.append(path)
    return written


def _table(
    title: str,
    titles: dict[str, str],
    metrics: Sequence[str],
    figures: Sequence[Figure],
    records: Sequence[Record],
) -> Table:
    """A section for each benchmark in `titles` that has rows; records with deviations stand apart from all of them."""
    heads = tuple(metric.replace("_", " ") for metric in metrics)
    columns = ("Method", "Backbone", *heads, "Source")
    reported, measured, sections = [], [], []
    for benchmark, section_title in titles.items():
        published = [figure for figure in figures if figure.benchmark == benchmark]
        own = [record for record in records if record.comparable and record.protocol.name == benchmark]
        reported += (papers := reported_rows(published, metrics))
        measured += (ours := measured_rows(own, published, metrics))
        if papers or ours:
            rows = tuple(mark_best([*papers, *ours], metrics))
            sections.append(Section(section_title, columns, rows, measured=bool(ours)))
    deviating = deviating_rows([record for record in records if not record.comparable], metrics)
    if deviating:
        columns = ("Model", "Backbone", *heads, "Deviations", "Protocol", "Data", "Runs")
        sections.append(Section(DEVIATING_TITLE, columns, tuple(deviating), comparable=False, measured=True))
    footnotes = _footnotes(sections, reported, [*measured, *deviating])
    return Table(title, tuple(sections), footnotes)


def _footnotes(sections: Sequence[Section], reported: Sequence[Row], measured: Sequence[Row]) -> tuple[str, ...]:
    """What the signs of the table mean, without those that do not occur."""
    scores = [score for section in sections for score in section.scores()]
    told = [
        (_has_gap(reported), f"{MISSING}: no source for this figure was found."),
        (_has_gap(measured), f"{MISSING} in a measured row: the metric is not defined on these data."),
        (
            reported,
            "primary: the authors' own paper, repository or log; secondary: another work that quotes the figure; "
            "reproduction: somebody's re-run. Each figure's source is in results/reported.",
        ),
        (any(score.spread is not None for score in scores), "±: sample standard deviation over the seeds."),
        (
            any(score.difference is not None for score in scores),
            "In brackets behind a measured value: difference to the reported figure of the same protocol and backbone, "
            "for the method whose checkpoint layout the weights have.",
        ),
        (
            any(score.best for score in scores),
            f"Bold: the best of its column in its section, if it leads the second by more than {NOISE['AP']} AP; "
            "seeds alone give that much.",
        ),
    ]
    return tuple(text for applies, text in told if applies)


def _has_gap(rows: Sequence[Row]) -> bool:
    return any(isinstance(cell, Score) and cell.value is None for row in rows for cell in row.cells)
