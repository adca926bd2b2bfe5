"""A real Chromium without a window. Tests that use it are slow, and skipped where there is none."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
DRIVER = shutil.which("chromedriver")

OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--hide-scrollbars", "--allow-file-access-from-files",
)  # fmt: skip


class Browser(Chrome):
    """Chromium that can be as narrow as a phone, and tells what a page asked and complained of."""

    def show(self, address: str | Path, width: int = 1280, height: int = 900, dark: bool = False):
        """Open a page, or a file, in a window of this size. What was logged before is dropped."""
        wishes = {"color-scheme": "dark" if dark else "light", "reduced-motion": "reduce"}
        media = [{"name": f"prefers-{name}", "value": wish} for name, wish in wishes.items()]
        self.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.get("about:blank")
        self.complaints(), self.requests()
        self.get(address.as_uri() if isinstance(address, Path) else address)

    def complaints(self) -> list[str]:
        """What stands in the console: warnings and errors since the last call."""
        return [entry["message"] for entry in self.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last call, pictures within the page left out."""
        logged = [json.loads(entry["message"])["message"] for entry in self.get_log("performance")]
        sent = [entry for entry in logged if entry["method"] == "Network.requestWillBeSent"]
        asked = [entry["params"]["request"]["url"] for entry in sent]
        return [address for address in asked if not address.startswith("data:")]


def open_browser(folder: Path) -> Browser:
    """Chromium with its files in this folder; whoever opens it has to `quit()` it."""
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*OPTIONS, f"--user-data-dir={folder}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = Browser(options, ChromeService(DRIVER))
    opened.set_script_timeout(300)
    return opened


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all tests; import it by name: `from browser import browser`."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium with its chromedriver here")
    opened = open_browser(tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.quit()
