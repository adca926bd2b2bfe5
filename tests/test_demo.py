"""The web page: its cards, and the whole of it in a real browser (`make test-full`)."""

import os
import re
from pathlib import Path

import pytest
from browser import browser  # noqa: F401 - a fixture
from gradio_client import Client, handle_file
from ports import free_port
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from shop import shop_row, write_shop
from tiny_moda import SAYS, photo, teach

from moda_utils import demo
from moda_utils.catalog import Catalog, read_catalog, save_catalog
from moda_utils.fast import FastModa
from moda_utils.modeling_moda import ModaForConditionalGeneration
from moda_utils.profiles import ROOT, get_profile
from moda_utils.serving.__main__ import main


@pytest.fixture(scope="module")
def best(tmp_path_factory):
    return teach(tmp_path_factory.mktemp("moda"))


@pytest.fixture
def home(best, monkeypatch, tmp_path):
    """The taught model as the profile's own, and a small catalogue to take examples from."""
    monkeypatch.setenv("MODA_HOME", str(best.parents[3]))
    monkeypatch.setenv("MODA_PROFILE", "mini")
    profile = get_profile()
    if not profile.catalog_path.exists():
        shop = write_shop(best.parents[3] / "shop", [shop_row(n) for n in range(12)])
        catalog = read_catalog(shop)
        frame = catalog.frame.assign(split="test", product_type=list("abcdefghijkl"))
        save_catalog(Catalog(frame, catalog.root, catalog.skipped), profile.catalog_path)
    return tmp_path


@pytest.fixture
def files(home):
    for colour in SAYS:
        photo(colour).save(home / f"{colour}.png")
    (home / "text.jpg").write_text("not a photo")
    return {path.name: str(path) for path in sorted(home.iterdir()) if path.is_file()}


def test_a_card_for_each_photo_good_or_bad(files):
    cards = demo.describe_cards([files[name] for name in ("red.png", "text.jpg", "lime.png")])
    first, second, third = cards.split('<div class="card">')[1:]
    assert SAYS["red"] in first and SAYS["lime"] in third
    assert re.findall(r'class="chip">([^<]+)<', first) == ["Red", "Shirts", "Men"]
    assert re.search(r'class="took">\d+ ms<', first)
    assert "text.jpg can&#x27;t be read as a photo: not an image file." in second
    assert str(Path(files["text.jpg"]).parent) not in cards
    assert demo.describe_cards([]) == ""


def test_a_file_name_is_text_and_not_html(home):
    path = home / "<b>x<b>.jpg"
    path.write_text("not a photo")
    assert "<b>" not in demo.describe_cards([str(path)])


def test_too_many_photos_are_cut_and_said(files, monkeypatch):
    monkeypatch.setattr(demo, "MOST", 2)
    cards = demo.describe_cards([files["red.png"]] * 3)
    assert cards.count(SAYS["red"]) == 2 and "3 photos: the first 2 are described" in cards


def test_without_a_model_the_notebook_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MODA_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="run notebook 05 first"):
        demo.page()


@pytest.mark.filterwarnings("ignore:::gradio")
@pytest.mark.parametrize(
    ("options", "kind"), [([], FastModa), (["--float32"], ModaForConditionalGeneration)]
)
def test_the_command_serves_the_model_that_is_asked_for(files, monkeypatch, options, kind):
    pages, used = [], []
    launch, load_model = demo.launch, demo.load_model

    def launched(*args, **kwargs):  # as from a notebook: the command would wait for Ctrl-C
        served = {"prevent_thread_lock": True, "quiet": True, "server_port": free_port()}
        pages.append(launch(*args, **kwargs, **served))

    def loaded(*args):
        used.append(load_model(*args))
        return used[-1]

    monkeypatch.setattr(demo, "launch", launched)
    monkeypatch.setattr(demo, "load_model", loaded)
    assert main(["--demo", *options]) == 0
    try:
        visitor = Client(pages[0].local_url, verbose=False)
        cards = visitor.predict([handle_file(files["red.png"])], fn_index=0)
    finally:
        pages[0].close()
    assert SAYS["red"] in cards
    assert len(used) == 2 and all(type(model) is kind for model, _ in used)


@pytest.fixture
def served(home):
    blocks = demo.launch(prevent_thread_lock=True, quiet=True, server_port=free_port())
    yield blocks.local_url
    blocks.close()


@pytest.mark.slow
def test_a_visitor_uploads_photos_and_reads_descriptions(served, browser, files):  # noqa: F811
    def cards():
        return browser.find_elements(By.CSS_SELECTOR, "#cards .card")

    def wait(until, what):
        WebDriverWait(browser, 90).until(lambda _: until(), what)

    browser.show(served, width=1200, height=1000)
    wait(lambda: browser.find_elements(By.CSS_SELECTOR, "#photos input[type=file]"), "page")
    assert "only ever seen drawings" in browser.find_element(By.TAG_NAME, "body").text
    upload = browser.find_element(By.CSS_SELECTOR, "#photos input[type=file]")
    upload.send_keys("\n".join(files[name] for name in ("red.png", "text.jpg", "blue.png")))
    wait(lambda: len(cards()) == 3, "three cards")
    texts = [card.text for card in cards()]
    assert SAYS["red"] in texts[0] and "Shirts" in texts[0] and " ms" in texts[0]
    assert "text.jpg can't be read as a photo" in texts[1]
    assert SAYS["blue"] in texts[2]

    out = Path(os.environ.get("MODA_SCREENSHOTS") or ROOT / "build" / "screenshots")
    out.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(out / "demo.png"))

    pictures = browser.find_elements(By.CSS_SELECTOR, "#examples img")
    assert len(pictures) == demo.EXAMPLES
    pictures[0].click()
    wait(lambda: len(cards()) == 1, "the example's card")
    assert any(text in cards()[0].text for text in SAYS.values())

    asked = browser.requests()
    assert any(address.startswith(served) for address in asked)
    assert [address for address in asked if not address.startswith((served, "blob:"))] == []
