"""The reported figures: complete, and every mistake in a file is named."""

from collections import Counter

import pytest
import yaml

from flsl_bench.errors import RecordError
from flsl_bench.results.reported import REPORTED, load_reported

FILE = """\
paper: FLSL
arxiv: '2306.06203'
figures:
  - {benchmark: coco, method: FLSL, backbone: ViT-S/16, metric: box_AP, value: 44.9,
     table: abstract, source_kind: primary, source: arXiv 2306.06203}
  - {benchmark: coco, method: FLSL, backbone: ViT-S/16, metric: mask_AP, value: 40.8,
     table: abstract, source_kind: primary, source: arXiv 2306.06203}
"""


def written(folder, text, name="flsl.yaml"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def typed(figure):
    """The figure's fields with their types: 200 and '200' and 200.0 are three different things."""
    return tuple(sorted((key, type(value).__name__, value) for key, value in figure.items()))


def test_nothing_is_lost_from_the_collection(shared):
    source = yaml.load((shared / "reported.yaml").read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    kept = [figure.model_dump(exclude_none=True) for figure in load_reported(REPORTED)]
    assert Counter(map(typed, kept)) == Counter(map(typed, source))


def test_committed_files_load():
    figures = load_reported()
    assert len(figures) == 1100
    assert len({figure.paper for figure in figures}) == len(list(REPORTED.glob("*.yaml")))
    (flsl,) = [f.value for f in figures if (f.paper, f.backbone, f.metric) == ("FLSL", "ViT-S/16", "box_AP")]
    assert flsl == 44.9


def test_figures_carry_paper_and_defaults(tmp_path):
    box, mask = load_reported(written(tmp_path, FILE))
    assert (box.paper, box.arxiv, box.value, box.pretrain_epochs, box.note) == ("FLSL", "2306.06203", 44.9, None, None)
    assert box.row == mask.row and box.identity != mask.identity


def test_a_whole_number_is_a_value(tmp_path):
    assert load_reported(written(tmp_path, FILE.replace("44.9", "45")))[0].value == 45.0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "source: arXiv 2306.06203}\n  -",
            "origin: arXiv}\n  -",
            r"entry 1 \(FLSL, box_AP\), field source: Field required",
        ),
        ("value: 40.8", "value: 40.8, std: 1", r"entry 2 \(FLSL, mask_AP\), field std: Extra inputs are not permitted"),
        ("source: arXiv 2306.06203}\n  -", "source: ''}\n  -", r"entry 1 \(FLSL, box_AP\), field source: "),
        ("source: arXiv 2306.06203}\n  -", "source: ' '}\n  -", r"entry 1 \(FLSL, box_AP\), field source: "),
        ("44.9", ".nan", r"entry 1 \(FLSL, box_AP\), field value: .*finite number"),
        ("44.9", ".inf", r"entry 1 \(FLSL, box_AP\), field value: .*finite number"),
        ("44.9", "'44.9'", r"entry 1 \(FLSL, box_AP\), field value: .*valid number"),
        ("44.9", "null", r"entry 1 \(FLSL, box_AP\), field value: "),
        ("primary", "guessed", r"entry 1 \(FLSL, box_AP\), field source_kind: "),
        ("value: 44.9", "value: 44.9, paper: DINO", r"entry 1 \(FLSL, box_AP\), field paper: Extra inputs"),
        ("value: 44.9", "value: 44.9, pretrain_epochs: 0", r"entry 1 \(FLSL, box_AP\), field pretrain_epochs: "),
        ("value: 44.9", "value: 44.9, batch_size: 1.5", r"entry 1 \(FLSL, box_AP\), field batch_size: "),
        ("arxiv: '2306.06203'", "arxiv: 2306.06203", "field arxiv: "),
        ("paper: FLSL", "papers: FLSL", "field paper: Field required"),
        (FILE, "paper: FLSL\narxiv: none\nfigures: []\n", "field figures: "),
        (FILE, "paper: FLSL\narxiv: none\nfigures: [a]\n", r"entry 1 \(no mapping\), field \(the whole\): "),
        (FILE, "", r"field \(the whole\): "),
        (FILE, "{", "not readable as YAML"),
    ],
)
def test_a_mistake_is_named_in_one_line(tmp_path, old, new, message):
    assert old in FILE
    with pytest.raises(RecordError, match=rf"flsl\.yaml: {message}") as caught:
        load_reported(written(tmp_path, FILE.replace(old, new)))
    assert "\n" not in str(caught.value)


def test_a_figure_reported_twice_is_an_error(tmp_path):
    twice = FILE.replace("mask_AP, value: 40.8", "box_AP, value: 45.0")
    with pytest.raises(
        RecordError, match=r"entry 2 \(FLSL, box_AP\): the same figure is in .*entry 1 \(FLSL, box_AP\)"
    ):
        load_reported(written(tmp_path, twice))


def test_a_figure_in_two_files_is_an_error(tmp_path):
    written(tmp_path, FILE)
    with pytest.raises(RecordError, match=r"more\.yaml: entry 1 .*the same figure is in .*flsl\.yaml: entry 1"):
        load_reported(written(tmp_path, FILE, "more.yaml"))


def test_pretraining_tells_figures_apart(tmp_path):
    told_apart = FILE.replace("mask_AP, value: 40.8", "box_AP, value: 45.0, pretrain_epochs: 200")
    assert len(load_reported(written(tmp_path, told_apart))) == 2


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(RecordError, match=r"holds no \*\.yaml file"):
        load_reported(tmp_path)
