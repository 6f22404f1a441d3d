"""A real browser, where there is one."""

import json
import shutil
import subprocess
from html import unescape

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=8000",
    "--dump-dom",
)  # fmt: skip
WATCH = "<script>var faults = []; window.onerror = m => { faults.push(m); };</script>"
ACT = """<script>addEventListener("load", () => setTimeout(async () => {
  let found;
  try { found = await (async () => { SCRIPT })(); } catch (error) { faults.push(String(error)); }
  const made = document.createElement("output");
  made.id = "found";
  made.textContent = JSON.stringify({ found, faults });
  document.body.append(made);
}, 200));</script>"""


@pytest.fixture
def browse(tmp_path):
    """Open a page in a browser, run a script on it, and return what the script returns."""
    if BROWSER is None:
        pytest.skip("no Chromium on this machine: apt install chromium")

    def run(html, script, address="", height=1000):
        page = tmp_path / "page.html"
        after = ACT.replace("SCRIPT", script)
        page.write_text(
            html.replace("<head>", f"<head>{WATCH}").replace("</body>", f"{after}</body>")
        )
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        done = subprocess.run(
            [
                str(BROWSER), *FLAGS, f"--window-size=1440,{height}", profile,
                f"{page.as_uri()}{address}",
            ],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        text = done.stdout.partition('<output id="found">')[2].partition("</output>")[0]
        result = json.loads(unescape(text))
        assert result["faults"] == []
        return result["found"]

    return run
