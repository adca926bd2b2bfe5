"""The web pages as a reader meets them: in a real browser, wide and as narrow as a phone."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from browser import browser  # noqa: F401 - a fixture
from bs4 import BeautifulSoup
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from test_notebooks import NOTEBOOKS

import pages

pytestmark = pytest.mark.slow
PHONE = 390  # pixels

BROKEN_IMAGES = "return [...document.images].filter(i => !i.naturalWidth).map(i => i.outerHTML)"
WIDER_THAN_PAGE = """
const page = document.documentElement;
return page.scrollWidth <= page.clientWidth ? [] :
  [...document.querySelectorAll("body *")].filter(
    e => e.getBoundingClientRect().right > page.clientWidth).map(e => e.outerHTML.slice(0, 120));
"""
# Contrast of every text against the ground that it stands on, by the formula of WCAG 2.
PALE_TEXT = """
const channels = colour => colour.match(/[\\d.]+/g).map(Number);
const light = colour => {
  const [r, g, b] = channels(colour).slice(0, 3).map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = element => {
  for (let e = element; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor, parts = channels(colour);
    if (parts.length < 4 || parts[3] === 1) return colour;
  }
  return "rgb(255, 255, 255)";
};
const pale = new Set();
const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
  if (!text || !e.checkVisibility() || e.closest(".anchor-link, script, style")) continue;
  const colours = [getComputedStyle(e).color, ground(e)];
  const [low, high] = colours.map(light).sort((a, b) => a - b);
  if ((high + 0.05) / (low + 0.05) < 4.5) pale.add(`${text.slice(0, 40)}: ${colours}`);
}
return [...pale];
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Pages of the notebooks as they are stored."""
    folder = tmp_path_factory.mktemp("site")
    notebooks = [nbformat.read(path, as_version=4) for path in NOTEBOOKS]
    lessons = [pages.read_lesson(nb, path.stem) for nb, path in zip(notebooks, NOTEBOOKS)]  # noqa: B905
    stamp = pages.Stamp("mini", "drawn", 1200, "2026-01-01")
    cards = []
    for place, notebook in enumerate(notebooks):
        headings = pages.write_page(notebook, lessons, place, stamp, 1.0, folder, folder)
        picture = pages.card_picture(notebook)
        cards.append(pages.Card(lessons[place], 1.0, 10**9, picture, headings))
    pages.write_index(cards, stamp, folder)
    return folder


def wait(browser, until):  # noqa: F811
    WebDriverWait(browser, 60).until(lambda _: until())


def arrive(browser, wanted: str) -> str:  # noqa: F811
    """Wait for the page that a click or a key leads to, for they don't; returns its name."""
    whole = "return document.readyState === 'complete'"
    wait(browser, lambda: browser.current_url == wanted and browser.execute_script(whole))
    return wanted.rsplit("/", 1)[1]


every_page = pytest.mark.parametrize("name", ["index", *(path.stem for path in NOTEBOOKS)])


@every_page
@pytest.mark.parametrize("width", [1280, PHONE])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_page_is_whole_readable_and_asks_for_nothing(browser, site, name, width, dark):  # noqa: F811
    page = site / f"{name}.html"
    browser.show(page, width, dark=dark)
    assert browser.complaints() == []
    assert browser.requests() == [page.as_uri()]
    assert browser.execute_script(BROKEN_IMAGES) == []
    assert browser.execute_script(WIDER_THAN_PAGE) == []
    assert browser.execute_script(PALE_TEXT) == []
    ground = "return getComputedStyle(document.body).backgroundColor"
    shade = [int(part) for part in re.findall(r"\d+", browser.execute_script(ground))]
    assert max(shade) < 60 if dark else min(shade) > 230


@every_page
def test_links_lead_somewhere(site, name):
    soup = BeautifulSoup((site / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
    assert soup.select("a[href]")
    for link in soup.select("a[href]"):
        target = urlsplit(link["href"])
        if target.scheme:
            continue
        path = (site / unquote(target.path)).resolve() if target.path else site / f"{name}.html"
        assert path.exists(), link["href"]
        if target.fragment and path.suffix == ".html":
            there = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
            assert there.find(id=unquote(target.fragment)), link["href"]


def test_search_finds_a_heading_and_leads_there(browser, site):  # noqa: F811
    browser.show(site / "index.html")
    field = browser.find_element(By.CSS_SELECTOR, "input[type=search]")
    hits = ".search li:not([hidden])"
    assert browser.find_elements(By.CSS_SELECTOR, hits) == []
    field.send_keys("before training")
    found = browser.find_elements(By.CSS_SELECTOR, hits)
    assert found
    assert all("before training" in hit.text.lower() for hit in found)
    assert f"{len(found)} heading" in browser.find_element(By.CSS_SELECTOR, "[role=status]").text
    wanted = found[0].find_element(By.TAG_NAME, "a").get_attribute("href")
    field.send_keys(Keys.ENTER)
    arrive(browser, wanted)
    top = "return document.querySelector(':target')?.getBoundingClientRect().top ?? -1000"
    wait(browser, lambda: -5 < browser.execute_script(top) < 200)
    browser.show(site / "index.html")
    browser.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys("no such heading")
    assert browser.find_elements(By.CSS_SELECTOR, hits) == []
    assert browser.find_element(By.CSS_SELECTOR, "[role=status]").text == "No headings"


def test_on_a_phone_the_contents_fold_open_and_lead_to_a_section(browser, site):  # noqa: F811
    browser.show(site / f"{NOTEBOOKS[0].stem}.html", PHONE)
    contents = browser.find_element(By.CSS_SELECTOR, "details.narrow")
    entries = contents.find_elements(By.TAG_NAME, "a")
    assert not entries[1].is_displayed()
    contents.find_element(By.TAG_NAME, "summary").click()
    assert entries[1].is_displayed()
    entries[1].click()
    wait(browser, lambda: browser.execute_script("return document.querySelector(':target')"))


def test_on_a_phone_a_figure_is_whole_and_grows_when_touched(browser, site):  # noqa: F811
    browser.show(site / f"{NOTEBOOKS[0].stem}.html", PHONE)
    widths = "return [...document.querySelectorAll('.output_png img')].map(i => i.offsetWidth)"
    before = browser.execute_script(widths)
    assert before and max(before) < PHONE
    browser.find_element(By.CSS_SELECTOR, ".output_png").click()
    after = browser.execute_script(widths)
    assert after[0] > PHONE
    assert after[1:] == before[1:]


def test_cards_and_steps_lead_through_the_course(browser, site):  # noqa: F811
    browser.show(site / "index.html")
    card = browser.find_element(By.CSS_SELECTOR, ".card a")
    wanted = card.get_attribute("href")
    card.click()
    visited = [arrive(browser, wanted)]
    while following := browser.find_elements(By.CSS_SELECTOR, ".pager .next"):
        wanted = following[0].get_attribute("href")
        browser.execute_script("arguments[0].click()", following[0])
        visited.append(arrive(browser, wanted))
    assert visited == [f"{path.stem}.html" for path in NOTEBOOKS]


def test_what_is_a_form_in_colab_is_folded(browser, site):  # noqa: F811
    browser.show(site / f"{NOTEBOOKS[0].stem}.html")
    folds = browser.find_elements(By.CSS_SELECTOR, "details.fold")
    assert len(folds) >= 2
    source = folds[0].find_element(By.CSS_SELECTOR, ".input")
    assert not source.is_displayed()
    folds[0].find_element(By.TAG_NAME, "summary").click()
    assert "moda_utils" in source.text
