"""Records to test with: complete, small, and told apart by the arguments."""

from datetime import datetime, timezone

import pytest

from flsl_bench.results.record import Data, Environment, Metric, Protocol, Record, Split, Weights, record_key


def build_record(
    *,
    model="flsl_vits16-aaaaaaaa",
    layout="flsl",
    arch="vit_small",
    patch=16,
    heads=6,
    benchmark="coco_maskrcnn_vit_fpn_1x",
    version="1",
    deviations=None,
    seed=0,
    task="coco",
    scores=None,
    breakdowns=None,
    digits="a",
    val_images=5000,
    minute=0,
) -> Record:
    """A record of the given metrics, by default box AP 44.9 and mask AP 40.8; of a Decay, lower is better.

    `digits` are those of the weights' hash.
    """
    weights = Weights(
        file="weights.pth",
        sha256=digits * 64,
        format=layout,
        branch="teacher",
        arch=arch,
        patch_size=patch,
        num_heads=heads,
        heads_source="the number of channels",
        prefix_tokens=0,
    )
    protocol = Protocol(name=benchmark, version=version, deviations=deviations or {})
    splits = {"train": Split(images=117266, bytes=10, annotations_sha256="b" * 64)}
    splits["val"] = Split(images=val_images, bytes=5, annotations_sha256="c" * 64)
    data = Data(name="coco", splits=splits)
    scores = {"box_AP": 44.9, "mask_AP": 40.8} if scores is None else scores
    return Record(
        model=model,
        task=task,
        protocol=protocol,
        metrics=[
            Metric(name=name, value=value, higher_is_better="Decay" not in name) for name, value in scores.items()
        ],
        breakdowns=breakdowns or {},
        weights=weights,
        data=data,
        seed=seed,
        environment=Environment(
            python="3.11.0",
            platform="Linux",
            packages={"torch": "2.8.0"},
            device="a processor",
            devices=1,
            precision="fp32",
            operators="numba",
            evaluator="pycocotools 2.0.10",
        ),
        command=["tools/train.py", "config.py"],
        git_commit=None,
        finished=datetime(2026, 1, 2, 3, minute, tzinfo=timezone.utc),
        seconds={"train": 12.5},
        key=record_key(weights, task, protocol, data, seed),
    )


@pytest.fixture(name="build_record")
def _build_record():
    return build_record
