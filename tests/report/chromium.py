"""A page in headless Chromium: a script looks at it and answers with JSON."""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_INSTALL = ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]
_FRAME = """<!doctype html><body style="margin:0"><script>
addEventListener("message", (event) => {{ document.documentElement.dataset.answer = event.data; }});
</script><iframe src="{page}" style="border:0;width:{width}px;height:800px"></iframe>"""


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path; on Debian, root installs it where it is absent, and else the test is skipped."""
    found = _find()
    if found:
        return found
    if os.geteuid() != 0 or not Path("/etc/debian_version").is_file():
        pytest.skip(f"no browser ({', '.join(_NAMES)}), and only root on Debian can install one here")
    try:
        subprocess.run(_INSTALL, capture_output=True, check=True, timeout=240)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no browser ({', '.join(_NAMES)}), and it could not be installed: {error}")
    return _find() or pytest.skip("apt-get installed chromium, and it is not on the path")


def _find() -> str | None:
    return next(filter(None, map(shutil.which, _NAMES)), None)


def dom(chromium: str, page: Path, profile: Path, *options: str) -> str:
    """The document of `page` as Chromium has it once its scripts have run."""
    command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={profile}", "--virtual-time-budget=3000", "--dump-dom", *options, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def ask(
    chromium: str, page: Path, folder: Path, question: str, *, width: int = 1200, dark: bool = False, hash: str = ""
):
    """What the body `question` of an async function returns in `page`, shown `width` pixels wide.

    The page stands in a frame, since a window of Chromium is never narrower than 500 pixels.
    """
    script = (
        f"<script>(async () => {{ {question} }})().then((a) => parent.postMessage(JSON.stringify(a), '*'))</script>"
    )
    text = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", page.read_text(encoding="utf-8"))
    (folder / "copy.html").write_text(text.replace("</body>", f"{script}</body>"), encoding="utf-8")
    frame = folder / "frame.html"
    frame.write_text(_FRAME.format(page=f"copy.html{hash}", width=width), encoding="utf-8")
    options = ["--window-size=1300,900", f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    answer = re.search(r'data-answer="([^"]*)"', dom(chromium, frame, folder / "profile", *options))
    assert answer, "the script in the page has not answered"
    return json.loads(html.unescape(answer[1]))
