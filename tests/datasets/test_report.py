"""What `flsl-bench data check` prints."""

import io

from rich.console import Console

from flsl_bench.datasets.discovery import DATASETS, check_data
from flsl_bench.datasets.report import print_data
from tests.datasets.data_folders import BUILDERS, touch


def printed(root, width=60):
    file = io.StringIO()
    print_data(check_data(root), Console(file=file, width=width))
    return file.getvalue()


def test_a_missing_data_set_is_told_with_its_layout_and_source(tmp_path):
    text = printed(tmp_path)
    for spec in DATASETS.values():
        assert f"missing  {spec.title}\n" in text and spec.published in text
        for line in spec.layout.splitlines():
            assert f"    {line}\n" in text


def test_splits_stand_below_their_folder_and_long_paths_stay_whole(tmp_path):
    folder = BUILDERS["coco"](tmp_path / "a_folder_with_a_name_[of]_more_than_sixty_characters_altogether")
    assert (
        f"sample   COCO 2017  {folder}\n"
        "  sample   train2017  2 images, 2 boxes; officially 118,287 images\n"
        "  sample   val2017    2 images, 2 boxes; officially 5,000 images\n"
        "\n"
    ) in printed(tmp_path)


def test_a_sound_data_set_needs_no_layout(tmp_path):
    for name, build in BUILDERS.items():
        build(tmp_path / name)
    assert "layout" not in printed(tmp_path)


def test_the_command_that_converts(tmp_path):
    touch(tmp_path / "UAV" / "GT" / "M0101_gt_whole.txt")
    command = f"flsl-bench data convert-uavdt --gt {tmp_path}/UAV/GT --out {tmp_path}/UAV"
    assert f"partial  UAVDT\n  not converted yet; run `{command}`\n" in printed(tmp_path)
