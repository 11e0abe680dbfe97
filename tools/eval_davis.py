#!/usr/bin/env python
"""DAVIS 2017 from a checkpoint to J&F: propagates the first masks through frozen features, scores, records.

Every option of the protocol has its published value as the default; others are recorded as deviations. Several GPUs:
torchrun --nproc_per_node 8 tools/eval_davis.py ... shares the sequences out. Started again, it goes on where it was.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flsl_bench.cli import run_tool

PANEL_SEQUENCES = 4


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis-root", required=True, metavar="DIR", help="holds Annotations, ImageSets, JPEGImages")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", metavar="FILE", help="the weights to evaluate, in any known layout")
    what.add_argument("--score-only", metavar="DIR", help="score the masks in DIR/<sequence>/*.png, nothing else")
    parser.add_argument("--split", default="val", help="list in ImageSets/2017 (default: val)")
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="only these sequences")
    parser.add_argument("--out", metavar="DIR", help="masks and CSV tables (default: work_dirs/davis/<model>)")
    parser.add_argument("--overlays", action="store_true", help="pictures of the masks over the frames in OUT/overlays")
    parser.add_argument("--video", choices=["mp4", "gif"], help="a video a sequence in OUT/videos")
    parser.add_argument("--cross-check", action="store_true", help="score with the official davis2017 package too")
    parser.add_argument("--workers", type=int, metavar="N", help="scoring threads (default: one a core)")

    weights = parser.add_argument_group("weights, where the file leaves something open")
    weights.add_argument("--arch", help="expected architecture, e.g. vit_small")
    weights.add_argument("--patch-size", type=int, help="expected patch size")
    weights.add_argument("--num-heads", type=int)
    weights.add_argument("--class-token", action=argparse.BooleanOptionalAction, help="is a CLS token in the sequence?")
    weights.add_argument("--branch", help="teacher, student, ...")

    protocol = parser.add_argument_group("protocol (defaults as published)")
    protocol.add_argument("--last-frames", type=int, help="context frames besides the first (7)")
    protocol.add_argument("--window", type=int, help="reach of the neighbourhood in patches (12)")
    protocol.add_argument("--window-shape", choices=["square", "circle"], help="square; circle is DINOv3's notebook's")
    protocol.add_argument("--top-k", type=int, help="context patches that count (5)")
    protocol.add_argument("--temperature", type=float, help="0.1")
    protocol.add_argument("--short-side", type=int, help="pixels (480)")
    protocol.add_argument("--size-multiple", type=int, help="the long side is a multiple of it (64)")
    protocol.add_argument("--mean", type=float, nargs=3, metavar=("R", "G", "B"))
    protocol.add_argument("--std", type=float, nargs=3, metavar=("R", "G", "B"), help=".228 .224 .225 as published")
    protocol.add_argument("--position-rule", choices=["scale_factor", "size"], default="scale_factor")

    running = parser.add_argument_group("running")
    running.add_argument("--device", help="cuda, cuda:1, cpu (default: a GPU if there is one)")
    running.add_argument("--half", action="store_true", help="fp16 on a GPU, bf16 on the CPU; recorded as a deviation")
    running.add_argument("--smoke", action="store_true", help="the first two sequences only; recorded as such")
    running.add_argument("--batch", type=int, help="frames at a time through the backbone")
    running.add_argument("--model-name", help="name in the tables (default: file name and digits of its hash)")
    running.add_argument("--results-dir", help="folder of the records (default: results/ of the checkout)")
    running.add_argument("--overwrite", action="store_true", help="propagate and record again")
    return parser.parse_args(argv)


def main() -> int:
    arguments = parse_args()
    return score_only(arguments) if arguments.score_only else evaluate(arguments)


def score_only(arguments: argparse.Namespace) -> int:
    """Two folders in, numbers out; PyTorch is not imported."""
    from flsl_bench.progress import bar
    from flsl_bench.tasks.davis_scoring import score

    with bar("score") as report:
        scores = score(
            arguments.score_only,
            arguments.davis_root,
            split=arguments.split,
            sequences=arguments.sequences,
            workers=arguments.workers,
            progress=lambda done, total: report("", done, total),
        )
    return show(arguments, scores, Path(arguments.out or arguments.score_only), Path(arguments.score_only))


def evaluate(arguments: argparse.Namespace) -> int:
    from flsl_bench.progress import bar
    from flsl_bench.results.terminal import print_record
    from flsl_bench.tasks import davis

    job = davis.prepare(
        arguments.checkpoint,
        arguments.davis_root,
        arch=arguments.arch,
        patch_size=arguments.patch_size,
        num_heads=arguments.num_heads,
        class_token=arguments.class_token,
        branch=arguments.branch,
        split=arguments.split,
        sequences=arguments.sequences,
        out=arguments.out,
        options=options(arguments),
        position_rule=arguments.position_rule,
        device=arguments.device,
        half=arguments.half,
        smoke=arguments.smoke,
        batch=arguments.batch,
        workers=arguments.workers,
        model=arguments.model_name,
        results=arguments.results_dir,
        overwrite=arguments.overwrite,
        command=sys.argv,
    )
    with bar("propagate") as report:
        outcome, record = davis.evaluate(job, report)
    if outcome.scores is None:  # the first process of several tells
        return 0
    for note in outcome.notes:
        print(f"note: {note}")
    code = show(arguments, outcome.scores, job.out, job.out)
    if record is not None:
        print_record(record, job.results)
    return code


def options(arguments: argparse.Namespace):
    """The protocol with the knobs that were given."""
    from flsl_bench.probes.label_propagation import Propagation

    names = ("last_frames", "window", "window_shape", "top_k", "temperature", "short_side", "size_multiple")
    given = {name: getattr(arguments, name) for name in names}
    given |= {name: tuple(value) for name in ("mean", "std") if (value := getattr(arguments, name))}
    return Propagation(**{name: value for name, value in given.items() if value is not None})


def show(arguments: argparse.Namespace, scores, out: Path, masks: Path) -> int:
    """Print the tables, write CSV files and pictures. 1 if a sequence failed, 3 if the official code differs."""
    from flsl_bench.tasks import davis_scoring

    if scores.objects:
        print(davis_scoring.text_table(scores))
        for path in scores.to_csv(out, partial=True):
            print(path)
    names = list(dict.fromkeys(one.sequence for one in scores.objects))
    for path in pictures(arguments, names, out, masks):
        print(path)
    for name, reason in scores.failures.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    if scores.failures:
        print(f"error: {len(scores.failures)} sequences failed; the figures are of the others", file=sys.stderr)
        return 1
    if arguments.cross_check:
        return cross_check(arguments, scores, masks)
    return 0


def pictures(arguments: argparse.Namespace, names: list[str], out: Path, masks: Path):
    """Write panels of the first sequences, and what --overlays and --video ask for; yields the paths."""
    from flsl_bench.datasets import davis
    from flsl_bench.pictures import video_masks

    for number, name in enumerate(names):
        sequence = davis.sequence(arguments.davis_root, name)
        if not (arguments.overlays or arguments.video or sequence.image_folder.is_dir()):
            continue  # masks alone can be scored
        frames = sequence.images()
        frames = [frame for frame in frames if (masks / name / f"{frame.stem}.png").is_file()]
        if number < PANEL_SEQUENCES:
            yield from video_masks.write_panels(name, frames, masks / name, out / "panels")
        if arguments.overlays:
            yield video_masks.write_pictures(frames, masks / name, out / "overlays" / name)
        if arguments.video:
            yield video_masks.write_video(frames, masks / name, out / "videos" / f"{name}.{arguments.video}")


def cross_check(arguments: argparse.Namespace, scores, masks: Path) -> int:
    from flsl_bench.tasks.davis_official import differences

    found = differences(scores, masks, arguments.davis_root)
    largest = max(found.values(), default=0.0)
    print(f"cross-check: the official package agrees on {len(found)} figures to {largest:.1e}")
    return 0 if largest <= 1e-6 else 3


if __name__ == "__main__":
    run_tool(main)
