"""A Chromium browser with the screen of a desktop or a phone, and a server for it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.conftest import AXE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver.chrome.webdriver import WebDriver
    from selenium.webdriver.remote.webelement import WebElement

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2",  # a mouse: headless Chromium has no pointer
)
LOOKS = ((390, "dark"), (1280, "light"))
"""The width of a screen in CSS pixels and the colour scheme: each width and each scheme is tested once."""


@contextmanager
def serving(folder: Path, renditions: Path, *more: str, lines: int = 1) -> Iterator[str]:
    """Run `galerly-cdn serve FOLDER`; yields the page's address, or those of the first `lines` lines."""
    command = [sys.executable, "-c", "from galerly_cdn.cli import main; main()", "serve", str(folder)]
    options = ["--port", "0", "--renditions", str(renditions), *more]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            address = " ".join(server.stdout.readline().split()[-1] for _ in range(lines))
            # Reads the access log: a full pipe would block the server.
            with subprocess.Popen(["cat"], stdin=server.stdout, stdout=subprocess.DEVNULL):
                yield address
                server.terminate()
        finally:
            server.terminate()


@contextmanager
def serving_with_admin(folder: Path, renditions: Path, *options: str) -> Iterator[tuple[str, str]]:
    """Run `galerly-cdn serve FOLDER` with an admin port; yields the addresses of both sides."""
    with serving(folder, renditions, "--admin-port", "0", *options, lines=2) as addresses:
        public, admin = addresses.split()
        yield public, admin


@contextmanager
def started(profile: Path) -> Iterator[WebDriver]:
    """Run headless Chromium with the folder of its profile."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        driver.set_script_timeout(60)
        yield driver
    finally:
        driver.quit()


class Browser:
    """One browser tab, with the screen of a desktop or a phone."""

    def __init__(self, driver: WebDriver) -> None:
        self._driver = driver
        self.errors()  # discards those of the previous test

    def set_screen(self, width_px: int, height_px: int, ratio: float = 1, **more: object) -> None:
        """Emulate a screen: its size in CSS pixels, and the device pixels per CSS pixel."""
        screen = {"width": width_px, "height": height_px, "deviceScaleFactor": ratio, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **screen | more)
        self.command("Emulation.setTouchEmulationEnabled", enabled="mobile" in more)

    def command(self, name: str, **arguments: object) -> Any:  # noqa: ANN401 - a JavaScript value
        """Send a command of the DevTools protocol."""
        return self._driver.execute_cdp_cmd(name, arguments)

    @contextmanager
    def slow_connection(self, bytes_per_s: float) -> Iterator[None]:
        """Limit the rate at which the browser receives. Without compression, it shows what it has."""
        conditions = {"offline": False, "latency": 0, "uploadThroughput": -1}
        self.command("Network.enable")
        self.command("Network.setExtraHTTPHeaders", headers={"Accept-Encoding": "identity"})
        self.command("Network.emulateNetworkConditions", downloadThroughput=bytes_per_s, **conditions)
        try:
            yield
        finally:
            self.command("Network.emulateNetworkConditions", downloadThroughput=-1, **conditions)
            self.command("Network.setExtraHTTPHeaders", headers={})
            self.command("Network.disable")

    @contextmanager
    def slow_upload(self, bytes_per_s: float, *, is_offline: bool = False) -> Iterator[None]:
        """Limit the rate at which the browser sends, or disconnect it."""
        conditions = {"offline": is_offline, "latency": 0, "downloadThroughput": -1}
        self.command("Network.enable")
        self.command("Network.emulateNetworkConditions", uploadThroughput=bytes_per_s, **conditions)
        try:
            yield
        finally:
            conditions["offline"] = False
            self.command("Network.emulateNetworkConditions", uploadThroughput=-1, **conditions)
            self.command("Network.disable")

    def open(self, address: str) -> None:
        self._driver.get(address)

    def run(self, script: str, *arguments: object) -> Any:  # noqa: ANN401 - a JavaScript value
        """Run the body of an async function, whose arguments are `given`; returns its value."""
        code = "const done = arguments[arguments.length - 1], given = [...arguments].slice(0, -1);"
        code += "(async () => {" + script + "})().then(done, (error) => done(`failed: ${error}`));"
        value = self._driver.execute_async_script(code, *arguments)
        assert not (isinstance(value, str) and value.startswith("failed: ")), value
        return value

    def until(self, condition: str, *arguments: object) -> Any:  # noqa: ANN401 - a JavaScript value
        """Evaluate an expression once per frame until it is true; returns its value."""
        frame = "await new Promise(requestAnimationFrame)"
        return self.run(
            f"for (;;) {{ const value = ({condition}); if (value) return value; {frame}; }}", *arguments
        )

    def arrive(self, path: str, selector: str = "body") -> None:
        """Wait until the window shows the page at a path, with an element of it.

        A script that waits would end with the page before it.
        """
        from selenium.webdriver.support.ui import WebDriverWait

        def is_there(driver: WebDriver) -> bool:
            has_arrived = urlsplit(driver.current_url).path == path
            return has_arrived and bool(driver.find_elements("css selector", selector))

        WebDriverWait(self._driver, 30, poll_frequency=0.02).until(is_there)

    def load_pictures(self) -> None:
        """Scroll every picture into view and wait until it is decoded."""
        self.run(
            """
            for (const image of document.querySelectorAll("main img")) {
              image.scrollIntoView();
              await image.decode().catch(() => {});
            }
            scrollTo(0, 0);
            """
        )

    def press(self, key: str) -> None:
        """Press a key: `ArrowRight`, `Escape`."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Escape": 27, "Enter": 13, "Tab": 9}
        text = {"text": "\r"} if key == "Enter" else {}  # what submits a form
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            code = {"windowsVirtualKeyCode": codes[key]} | (text if kind == "keyDown" else {})
            self.command("Input.dispatchKeyEvent", type=kind, key=key, code=key, **code)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def find(self, selector: str) -> WebElement:
        """The first element."""
        return self._driver.find_element("css selector", selector)

    def emulate(self, scheme: str) -> None:
        """Prefer the colour scheme `light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.command("Emulation.setEmulatedMedia", features=[feature])

    def violations(self) -> list[list[str]]:
        """What axe-core finds in the page as it is now: rule and element."""
        found: list[list[str]] = self.run(
            AXE.read_text("utf-8")
            + "return (await axe.run()).violations.map((one) => [one.id, one.nodes[0].html])"
        )
        return found

    def overflow(self) -> list[str]:
        """The elements that reach beyond the screen's width, or whose text is cut; not those that scroll."""
        found: list[str] = self.run(
            """
            const width = document.documentElement.clientWidth;
            if (document.documentElement.scrollWidth > width) return ["the page"];
            return [...document.querySelectorAll("body *")]
              .filter((one) => !one.closest(".scroll, .skip, .visually-hidden, .uplot, thead"))
              .filter((one) => one.getBoundingClientRect().right > width + 1
                || (one.matches("td, th, li, dd, p, h1, h2, button")
                    && one.clientWidth && one.scrollWidth > one.clientWidth + 1))
              .map((one) => one.outerHTML.slice(0, 200));
            """
        )
        return found

    def layout_shift(self) -> float:
        """The sum of the page's layout shifts so far."""
        shift: float = self.run(
            """
            return new Promise((resolve) => {
              let sum = 0;
              const observer = new PerformanceObserver((list) => {
                for (const entry of list.getEntries()) sum += entry.value;
              });
              observer.observe({ type: "layout-shift", buffered: true });
              requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => resolve(sum))));
            });
            """
        )
        return shift

    def type_text(self, text: str) -> None:
        """Type into the focused element."""
        self.command("Input.insertText", text=text)

    def errors(self) -> list[str]:
        """The console's errors and warnings since the last call."""
        logged: list[dict[str, str]] = self._driver.get_log("browser")  # type: ignore[no-untyped-call]  # selenium has no types
        return [line["message"] for line in logged if line["level"] in {"SEVERE", "WARNING"}]
