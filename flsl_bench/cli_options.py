"""Options that several commands of `flsl-bench` have."""

from typing import Annotated

import typer

Branch = Annotated[str | None, typer.Option(help="teacher, student, ...: which network of the file.")]
Heads = Annotated[int | None, typer.Option(help="Number of attention heads, where the file does not tell it.")]
ClassToken = Annotated[
    bool | None, typer.Option(help="Whether a CLS token is in the sequence, where the tensors leave it open.")
]
