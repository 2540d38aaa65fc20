"""The server's page in headless Chromium: drops a picture, reads the answer, asks where things are, both colour schemes.

Usage: page.py GLIMPSE MODELS_FOLDER [SCREENSHOTS_FOLDER]. Exit status 77: skipped, Chromium or its driver is missing.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request

ANSWER = "An orange ring, a green square, a blue heart and a green circle on a yellow background."
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # as the WebDriver standard names it


class Browser:
    """As much of the WebDriver protocol as is needed here."""

    def __init__(self, driver, chromium):
        self.process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        port = None
        for line in self.process.stdout:
            port = re.search(r"successfully on port (\d+)", line)
            if port:
                break
        self.base = f"http://127.0.0.1:{port.group(1)}"
        options = {"binary": chromium, "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                                                "--disable-dev-shm-usage", "--window-size=1100,900"]}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.base += "/session/" + session["sessionId"]

    def call(self, method, path, body=None):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def script(self, text, *arguments):
        return self.call("POST", "/execute/sync", {"script": text, "args": list(arguments)})

    def type(self, selector, text):
        element = self.call("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]
        self.call("POST", f"/element/{element}/value", {"text": text})

    def wait(self, condition, what):
        end = time.time() + 30
        while not self.script("return " + condition):
            if time.time() > end:
                raise AssertionError(f"waited in vain for {what}")
            time.sleep(0.03)

    def devtools(self, command, parameters):
        self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def look(self, name):
        if len(sys.argv) > 3:
            with open(os.path.join(sys.argv[3], name + ".png"), "wb") as file:
                file.write(base64.b64decode(self.call("GET", "/screenshot")))

    def quit(self):
        self.call("DELETE", "")
        self.process.terminate()
        self.process.wait()


DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], "sample.png", { type: "image/png" }));
for (const type of ["dragenter", "dragover", "drop"]) {
  document.body.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
}
"""
DONE = "document.querySelectorAll('.turn.assistant[aria-busy=false]').length === %d"
LAST = "return [...document.querySelectorAll('.turn.assistant')].at(-1).querySelector('.said').textContent"


def check_page(browser, url, picture):
    browser.call("POST", "/url", {"url": url})
    browser.wait("document.getElementById('model').textContent === 'demo-Q8_0'", "the model's name")
    browser.look("1-welcome")
    browser.script(DROP, picture)
    browser.wait("document.querySelectorAll('#tray img').length === 1", "the dropped picture")
    browser.look("2-dropped")
    browser.type("#question", "Describe this picture.\ue007")
    browser.wait(DONE % 1, "the answer")
    assert browser.script(LAST) == ANSWER, browser.script(LAST)
    assert "tokens" in browser.script("return document.querySelector('.foot').textContent")
    assert browser.script("return document.getElementById('status').textContent") == ANSWER  # for screen readers
    browser.look("3-answer")
    # Markup of a user stays text; a second turn knows of the first.
    browser.type("#question", "Where is the blue heart? <img src=x onerror='document.title=1'><b>\ue007")
    browser.wait(DONE % 2, "the second answer")
    assert browser.script("return document.querySelectorAll('#turns .said img, #turns .said b').length") == 0
    assert browser.script("return document.title") == "glimpse"


def check_failures(browser, picture):
    """A question that failed can be asked again until another one is; a file that cannot be read is named."""
    again = "[...document.querySelectorAll('button')].filter(b => b.textContent === 'Try again')"
    browser.script("window.whole = window.fetch; window.fetch = () => Promise.reject(new Error('down'))")
    for i in range(2):
        browser.type("#question", "Is there a heart?\ue007")
        browser.wait(f"document.querySelectorAll('.problem').length === {i + 1}", "the failure")
        assert browser.script(f"return {again}.length") == 1, "of the first nothing is left to try"
    browser.script(f"window.fetch = window.whole; {again}[0].click()")
    browser.wait(DONE % 4, "the answer")  # two before, a failure, and this one in the place of another
    assert browser.script("return document.querySelectorAll('.problem').length") == 1 and browser.script(LAST)
    assert browser.script(f"return {again}.length") == 0
    browser.script("window.read = FileReader.prototype.readAsDataURL;"
                   "FileReader.prototype.readAsDataURL = function() { this.onerror(); }")
    browser.script(DROP, picture)
    browser.wait("document.getElementById('status').textContent === 'sample.png cannot be read'", "what is wrong with it")
    browser.script("FileReader.prototype.readAsDataURL = window.read")
    assert browser.script("return document.querySelectorAll('#tray img').length") == 0


def check_shapes(browser, picture):
    browser.script("document.getElementById('new').click()")
    browser.script(DROP, picture)
    browser.wait("document.querySelectorAll('#tray img').length === 1", "the picture")
    browser.type("#question", GROUNDING + "\ue007")
    browser.wait(DONE % 1, "the boxes")
    browser.look("4-boxes")
    assert browser.script("return document.querySelectorAll('.canvas svg > *').length") >= 1, browser.script(LAST)
    chips = browser.script("return [...document.querySelectorAll('.chip')].map(c => c.getAttribute('aria-label'))")
    assert all("percent across" in chip for chip in chips), chips
    browser.script("document.querySelector('.chip').focus()")
    assert browser.script("return document.querySelectorAll('.canvas svg > .lit').length") == 1
    browser.look("5-box-lit")
    browser.script("document.getElementById('scheme').click()")
    assert browser.script("return document.documentElement.dataset.scheme") == "dark"
    browser.look("6-dark")
    browser.devtools("Emulation.setDeviceMetricsOverride", {"width": 390, "height": 780, "deviceScaleFactor": 2, "mobile": True})
    browser.look("7-narrow")
    wide = browser.script("return document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"{wide} pixels too wide for a telephone"


def check_names(browser):
    """Everything that can be reached by keyboard has a name."""
    nameless = browser.script("""
      return [...document.querySelectorAll('button, input, textarea, img')].filter(e => !e.getAttribute('aria-label')
        && !e.textContent.trim() && !e.alt && !e.closest('label')).map(e => e.outerHTML)""")
    assert nameless == [], nameless


GROUNDING = "Find the blue heart and give its box."


def main():
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not driver or not chromium:
        print("skipped: chromium and chromedriver (Debian's chromium, chromium-driver) are not installed")
        return 77
    glimpse, models = sys.argv[1:3]
    server = subprocess.Popen(
        [glimpse, "serve", "-m", f"{models}/demo-Q8_0.gguf", "--mmproj", f"{models}/mmproj-demo-f16.gguf", "--port", "0",
         "-t", "1"], stderr=subprocess.PIPE, text=True)
    url = re.search(r"http://\S+", server.stderr.readline()).group(0)
    browser = Browser(driver, chromium)
    try:
        with open(f"{models}/sample.png", "rb") as file:
            picture = base64.b64encode(file.read()).decode()
        check_page(browser, url, picture)
        check_failures(browser, picture)
        check_shapes(browser, picture)
        check_names(browser)
        problems = [entry["message"] for entry in browser.call("POST", "/se/log", {"type": "browser"})]
        assert problems == [], problems
    finally:
        browser.quit()
        server.terminate()
        server.wait()
    print("page: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
