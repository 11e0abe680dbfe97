"""The list of known models fits its schema, the registry of layouts, and a terminal."""

import io

import pytest
import yaml
from rich.console import Console

from flsl_bench.checkpoints import LAYOUTS
from flsl_bench.errors import ConfigError
from flsl_bench.known_models import KNOWN_MODELS, load_known_models, models_table
from flsl_bench.results.reported import load_reported

OWN = {"flsl_bench", "openmmlab_finetuned", "bare_backbone"}  # this project's files, and dicts that say nothing


def entry(**changes):
    known = {"method": "DINO", "backbones": ["ViT-S/16"], "layouts": ["dino"], "tested_on": "key names"}
    return {key: value for key, value in (known | changes).items() if value is not ...}


def fault(tmp_path, content):
    """The one line that a file of this content is refused with, without the path."""
    path = tmp_path / "models.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(ConfigError) as caught:
        load_known_models(path)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_every_layout_is_registered_and_every_foreign_layout_has_a_model():
    named = {layout for model in load_known_models() for layout in model.layouts}
    assert named == set(LAYOUTS) - OWN


def test_methods_of_the_suite_are_there():
    methods = {model.method for model in load_known_models()}
    assert {"FLSL", "SelfPatch", "DINO", "iBOT", "MoCo v3", "MAE", "DINOv2", "timm's ViT", "DeiT"} <= methods


def test_arxiv_numbers_are_those_of_the_reported_figures():
    reported = {figure.paper: figure.arxiv for figure in load_reported()}
    for model in load_known_models():
        assert model.arxiv == reported.get(model.method, model.arxiv)


def test_the_files_of_the_reference_code_are_of_the_layouts_that_claim_it(shared):
    """What `tested_on: reference code` says is what lies there."""
    from flsl_bench.checkpoints import load_checkpoint

    golden = (shared / "golden" / "vit").glob("*.pth")
    formats = {load_checkpoint(path, num_heads=2).facts.format for path in golden}
    models = [model for model in load_known_models() if model.tested_on == "reference code"]
    assert formats == {layout for model in models for layout in model.layouts}


def test_the_list_is_part_of_the_package():
    from configparser import ConfigParser

    setup = ConfigParser()
    setup.read(KNOWN_MODELS.parent.parent / "setup.cfg")
    assert KNOWN_MODELS.name in setup["options.package_data"]["flsl_bench"].split()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([entry(arch="vit_small")], "entry 1 (DINO), field arch: Extra inputs are not permitted"),
        ([entry(layouts=...)], "entry 1 (DINO), field layouts: Field required"),
        (
            [entry(), entry(method="MAE", arxiv=2111.06377)],
            "entry 2 (MAE), field arxiv: Input should be a valid string",
        ),
        ([entry(arxiv="2111.063")], "entry 1 (DINO), field arxiv: String should match pattern"),
        ([entry(backbones=["ViT-S/16", "vit_small"])], "entry 1 (DINO), field backbones.1: String should match"),
        ([entry(backbones=[])], "entry 1 (DINO), field backbones: List should have at least 1 item"),
        ([entry(weights="dl.fbaipublicfiles.com")], "entry 1 (DINO), field weights: String should match"),
        ([entry(tested_on="yes")], "entry 1 (DINO), field tested_on: Input should be"),
        (["DINO"], "entry 1: Input should be a valid dictionary"),
        ({"method": "DINO"}, "(the whole): Input should be a valid list"),
        ("", "(the whole): Input should be a valid list"),
        ("- [", "not readable as YAML ("),
        ([entry(), entry()], "method 'DINO' is there twice; remove one of its entries"),
    ],
)
def test_faults(tmp_path, content, expected):
    assert fault(tmp_path, content).startswith(expected)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"lost\.yaml: not readable as YAML"):
        load_known_models(tmp_path / "lost.yaml")


def test_table_at_100_columns_has_every_source_in_one_piece():
    file = io.StringIO()
    Console(file=file, width=100).print(models_table())
    text = file.getvalue()
    for model in load_known_models():
        assert model.method in text and model.weights in text and f"arXiv {model.arxiv}" in text
        assert all(layout in text for layout in model.layouts)


def test_table_of_a_model_of_which_little_is_known(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump([entry(method="New [method]", paper="A title")]))
    file = io.StringIO()
    Console(file=file, width=100).print(models_table(load_known_models(path)))
    assert "New [method]" in file.getvalue() and "A title" in file.getvalue()
