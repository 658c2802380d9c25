"""A real browser for pages: Debian's or any other Chromium with its driver."""

import json
import os
import shutil
import tempfile

_SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def missing():
    """Returns what a browser test lacks on this machine, or nothing."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return "no Chromium is installed"
    if shutil.which("chromedriver") is None:
        return "Chromium is installed, but not its chromedriver"
    return None


class Browser:
    """Chromium without a window, and what it wrote to its logs."""

    def __enter__(self):
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        os.environ["SE_OFFLINE"] = "true"  # no driver is looked for elsewhere
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or shutil.which(
            "google-chrome"
        )
        for switch in (*_SWITCHES, f"--user-data-dir={self._profile.name}"):
            options.add_argument(switch)
        logs = {"browser": "ALL", "performance": "ALL"}
        options.set_capability("goog:loggingPrefs", logs)
        service = Service(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        return self

    def __exit__(self, *error):
        self.driver.quit()
        self._profile.cleanup()

    def open(self, page, *, width=1440, scheme="light"):
        """Opens an address, or a file as it is from disk, in a window of a width."""
        self.driver.get("about:blank")
        self.messages()  # those of the page before are gone
        self.requests()
        self.resize(width)
        wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": wish} for name, wish in wishes.items()]
        self.command("Emulation.setEmulatedMedia", features=features)
        address = page if isinstance(page, str) else page.resolve().as_uri()
        self.driver.get(address)

    def resize(self, width):
        """Makes the window so many pixels wide, as a telephone's can be."""
        metrics = {"height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", width=width, **metrics)

    def command(self, name, **arguments):
        """Gives a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def run(self, script, *arguments):
        """Returns what a script in the page returns."""
        return self.driver.execute_script(script, *arguments)

    def all(self, selector):
        """Returns the elements that a selector finds."""
        return self.driver.find_elements("css selector", selector)

    def messages(self):
        """Returns what was written to the console since the last call."""
        return self.driver.get_log("browser")

    def requests(self):
        """Returns the addresses that were asked for since the last call."""
        entries = (json.loads(e["message"]) for e in self.driver.get_log("performance"))
        events = (entry["message"] for entry in entries)
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
