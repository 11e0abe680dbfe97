"""The page as a browser shows it: sorting, folding, pictures, widths, the dark, and what no script may do."""

import re
from pathlib import Path

import pytest

from tests.report.chromium import ask, chromium, dom
from tests.report.conftest import FLSL

__all__ = ["chromium"]  # the fixture

pytestmark = pytest.mark.timeout(400)  # the first test may install the browser

OPEN_ALL = "document.querySelectorAll('details').forEach((fold) => { fold.open = true; });"


def test_a_column_sorts_both_ways_and_what_has_no_value_stays_last(chromium, page, tmp_path):
    answer = ask(
        chromium,
        page,
        tmp_path,
        """
        const table = document.querySelector('[aria-labelledby="davis-measured-1"] table');
        const head = table.tHead.rows[0].cells[2];
        const button = head.querySelector('button');
        const column = (n) => [...table.tBodies[0].rows].map((row) => row.cells[n].querySelector('*')?.textContent
            ?? row.cells[n].textContent);
        const found = [];
        for (let n = 0; n < 2; n++) {
          button.focus();
          const focused = document.activeElement === button;
          button.click();
          found.push([focused, head.getAttribute('aria-sort'), column(2)]);
        }
        table.tHead.rows[0].cells[0].querySelector('button').click();
        return [...found, [head.hasAttribute('aria-sort'), column(0)]];
        """,
    )
    high, low, words = answer
    for (focused, order, values), reverse in ((high, True), (low, False)):
        assert focused and order == ("descending" if reverse else "ascending")
        numbers = [float(value) for value in values if value != "—"]
        assert len(numbers) == 11 and numbers == sorted(numbers, reverse=reverse)
        assert values[len(numbers) :] == ["—", "—"]
    assert words[0] is False
    initials = [name[0].lower() for name in words[1]]
    assert initials == sorted(initials) and initials[0] == "c" and initials[-1] == "s"


def test_a_score_opens_its_records_at_one_click_and_so_does_an_address(chromium, page, tmp_path):
    question = """
        const link = document.querySelector('[aria-labelledby="coco-measured-1"] tr.measured:last-child td a');
        const target = document.getElementById(link.hash.slice(1));
        const before = target.checkVisibility();
        link.click();
        await new Promise((done) => setTimeout(done, 200));
        const box = target.getBoundingClientRect();
        const inView = box.top >= 0 && box.top < innerHeight;
        return [before, target.checkVisibility(), document.activeElement === target, inView,
                target.querySelectorAll('article').length];
    """
    assert ask(chromium, page, tmp_path, question) == [False, True, True, True, 3]
    record = re.search(rf'<article id="({FLSL}--coco--[0-9a-f]+)"', page.read_text(encoding="utf-8"))[1]
    shown = f"return document.getElementById({record!r}).checkVisibility();"
    assert ask(chromium, page, tmp_path, shown) is False
    assert ask(chromium, page, tmp_path, shown, hash=f"#{record}") is True


def test_a_picture_opens_large_and_closes(chromium, page, tmp_path):
    answer = ask(
        chromium,
        page,
        tmp_path,
        """
        const viewer = document.getElementById('viewer');
        const picture = document.querySelector('button.enlarge');
        picture.click();
        const image = viewer.querySelector('img');
        await image.decode();
        const open = [viewer.open, viewer.matches(':modal'), image.src === picture.querySelector('img').src,
                      image.naturalWidth, viewer.querySelector('p').textContent,
                      document.activeElement === viewer.querySelector('button')];
        viewer.querySelector('button').click();
        return [...open, viewer.open];
        """,
    )
    assert answer == [True, True, True, 160, "Masks: bike-packing", True, False]


@pytest.mark.parametrize("width", [360, 768, 1200])
def test_nothing_is_wider_than_the_page(chromium, page, tmp_path, width):
    wide = """
        OPEN
        await new Promise((done) => setTimeout(done, 100));
        const labels = [...document.querySelectorAll('.chart text')].map((label) =>
            11 * label.getScreenCTM().a).filter((size) => size > 0);
        const outside = [...document.querySelectorAll('main *')].filter((node) =>
            !node.closest('.scroll, pre, dialog') && node.getBoundingClientRect().right > innerWidth + 1);
        return [innerWidth, document.documentElement.scrollWidth, outside.map((node) => node.outerHTML.slice(0, 80)),
                Math.min(...labels.map(Math.abs).filter((size) => size > 1))];
    """
    inner, scroll, outside, smallest_label = ask(chromium, page, tmp_path, wide.replace("OPEN", OPEN_ALL), width=width)
    assert (inner, outside) == (width, [])
    assert scroll <= width
    assert smallest_label >= 8.5


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_ground(chromium, page, tmp_path, dark):
    """WCAG 2.2, success criterion 1.4.3: 4.5:1, of everything with text of its own, as the browser paints it."""
    question = """
        OPEN
        const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
        const ground = (node) => {
          for (let at = node; at; at = at.parentElement) {
            const colour = channels(getComputedStyle(at).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour.slice(0, 3);
          }
        };
        const own = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
        const pairs = new Set();
        for (const node of document.querySelectorAll('body *')) {
          if (!own(node) || node.closest('script, style') || !node.checkVisibility()) continue;
          const style = getComputedStyle(node);
          const ink = node.ownerSVGElement ? style.fill : style.color;
          pairs.add(JSON.stringify([channels(ink).slice(0, 3), ground(node)]));
        }
        return [...pairs].map(JSON.parse);
    """
    pairs = ask(chromium, page, tmp_path, question.replace("OPEN", OPEN_ALL), dark=dark)
    assert len(pairs) > 5
    assert {sum(ground) < 3 * 128 for _, ground in pairs} == {dark}
    assert [(ink, ground) for ink, ground in pairs if _contrast(ink, ground) < 4.5] == []


def _contrast(one, other):
    """WCAG's ratio of two sRGB colours."""
    low, high = sorted(map(_luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_pages_own_script_runs_and_no_other(chromium, page, tmp_path):
    intruder = "<script>document.documentElement.dataset.intruder = 1</script><img src=x onerror='document.title = 1'>"
    copy: Path = tmp_path / "copy.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("<main", f"{intruder}<main", 1), encoding="utf-8")
    shown = dom(chromium, copy, tmp_path / "profile")
    assert re.search(r"<html[^>]*>", shown)[0] == '<html lang="en" class="js">'
    assert "<title>Downstream evaluation" in shown
