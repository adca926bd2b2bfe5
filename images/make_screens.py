"""Take the picture of the demo page that notebook 07 shows: `python -m images.make_screens`.

The profile's own trained model describes two photos of its test split on the real page, in a
Chromium without a window. Look at the picture before it is stored.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from moda_utils import demo
from moda_utils.catalog import load_catalog
from moda_utils.profiles import ROOT, get_profile

sys.path.insert(0, str(ROOT / "tests"))
from browser import open_browser

OUT = ROOT / "images" / "screens" / "demo_page.png"
WIDTH, HEIGHT = 1100, 640


def main() -> None:
    catalog = load_catalog(get_profile().catalog_path)
    test = catalog.frame[catalog.frame["split"] == "test"]
    photos = [str(catalog.root / name) for name in test["image"].iloc[[0, 1]]]
    page = demo.launch(prevent_thread_lock=True, quiet=True)
    with tempfile.TemporaryDirectory() as folder:
        browser = open_browser(Path(folder))
        try:
            browser.show(page.local_url, WIDTH, HEIGHT)
            wait = WebDriverWait(browser, 90)
            upload = wait.until(
                lambda b: b.find_elements(By.CSS_SELECTOR, "#photos input[type=file]")
            )[0]
            upload.send_keys("\n".join(photos))
            wait.until(lambda b: len(b.find_elements(By.CSS_SELECTOR, "#cards .card")) == 2)
            wait.until(
                lambda b: b.execute_script(
                    "return [...document.images].every(image => image.complete)"
                )
            )
            taken = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
        finally:
            browser.quit()
            page.close()
    OUT.parent.mkdir(exist_ok=True)
    taken.quantize(128).save(OUT, optimize=True)
    print(f"{OUT.relative_to(ROOT)}: {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
