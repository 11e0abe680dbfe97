"""Where the checkout is, and how a path given by a user is found."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
RESULTS = CHECKOUT / "results"  # where records, reported figures and tables lie unless a user says otherwise


def find(path: str | os.PathLike) -> Path:
    """`path` seen from the current folder or, if nothing is there, from the checkout.

    So `mmconfigs/x.py` and the default `data/coco` mean the same from any folder. A path that exists nowhere is
    returned as it was given.
    """
    path = Path(path).expanduser()
    if path.is_absolute() or path.exists():
        return path
    in_checkout = CHECKOUT / path
    return in_checkout if in_checkout.exists() else path
