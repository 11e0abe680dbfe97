"""The page without a mouse."""

import pytest

from tests.report.chromium import chromium
from tests.report.keyboard import Keyboard

__all__ = ["chromium"]  # the fixture

pytestmark = pytest.mark.timeout(400)  # the first test may install the browser

FOCUSED = "document.activeElement"
OUTLINE = f"getComputedStyle({FOCUSED}).outlineStyle"


@pytest.fixture
def keyboard(chromium, page, tmp_path):
    with Keyboard(chromium, page, tmp_path / "profile") as keyboard:
        yield keyboard


def test_the_first_key_shows_a_link_that_skips_to_the_content(keyboard):
    hidden = keyboard.look("document.querySelector('.skip').getBoundingClientRect().right")
    keyboard.press("Tab")
    assert keyboard.look(f"{FOCUSED}.className") == "skip"
    assert hidden <= 0 <= keyboard.look(f"{FOCUSED}.getBoundingClientRect().left")
    keyboard.press("Enter")
    keyboard.wait(f"{FOCUSED}.tagName === 'MAIN'")


def test_the_heads_of_a_table_are_reached_seen_and_pressed(keyboard):
    keyboard.look("document.getElementById('content').focus()")
    order = f"{FOCUSED}.closest('th').getAttribute('aria-sort')"
    models = "[...document.querySelector('table').tBodies[0].rows].map((row) => row.cells[0].textContent)"
    for class_name in ("scroll", "sort"):
        keyboard.press("Tab")
        assert keyboard.look(f"{FOCUSED}.className") == class_name
        assert keyboard.look(OUTLINE) == "solid"
    keyboard.press("Enter")
    assert keyboard.look(order) == "ascending"
    assert keyboard.look(models) == sorted(keyboard.look(models))
    keyboard.press("Space")
    assert keyboard.look(order) == "descending"
    assert keyboard.look(models) == sorted(keyboard.look(models), reverse=True)


def test_enter_on_a_score_leads_to_its_records(keyboard):
    keyboard.look("document.querySelector('tr.measured td a').focus()")
    target = keyboard.look(f"{FOCUSED}.hash.slice(1)")
    keyboard.press("Enter")
    keyboard.wait(f"{FOCUSED}.id === '{target}'")
    assert keyboard.look(f"{FOCUSED}.checkVisibility()")


def test_a_picture_opens_by_enter_and_closes_by_escape(keyboard):
    is_open = "document.getElementById('viewer').open"
    keyboard.look("document.querySelectorAll('button.enlarge')[1].focus()")
    keyboard.press("Enter")
    assert keyboard.look(is_open)
    assert keyboard.look(f"{FOCUSED}.textContent") == "Close"
    keyboard.press("Escape")
    keyboard.wait(f"!{is_open}")
    assert keyboard.look(f"{FOCUSED} === document.querySelectorAll('button.enlarge')[1]")
