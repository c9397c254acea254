"""A page in headless Chromium: what it looks like to axe-core, how wide it gets."""

import html
import json
import re
import shutil
import subprocess
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

LIGHT, DARK = 1, 0  # Blink's numbers of the preferred color scheme
_SECONDS = 120

# Runs in a copy of the page, with everything folded open, and writes what it finds into the page.
_SCRIPT = """
document.querySelectorAll("details").forEach(each => each.open = true);
axe.run(document).then(found => {
  const result = document.createElement("pre");
  result.id = "found";
  result.textContent = JSON.stringify({
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    checked: found.passes.map(rule => rule.id),
    violations: found.violations.map(
      rule => `${rule.id}: ${rule.nodes.map(node => node.html.slice(0, 200)).join(" | ")}`),
  });
  document.body.append(result);
});
"""


def chromium() -> str:
    """The browser's program, or a skip where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no Chromium is installed")


def open_page(page: Path, scheme: int) -> subprocess.CompletedProcess[str]:
    """Open a file; what is left of it is on stdout as HTML."""
    done = subprocess.run(
        [
            *(chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            "--host-resolver-rules=MAP * ~NOTFOUND",  # nothing leaves this machine
            f"--user-data-dir={page.with_suffix('.profile')}",
            f"--blink-settings=preferredColorScheme={scheme}",
            *("--virtual-time-budget=20000", "--dump-dom"),
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done


def axe(text: str, folder: Path, scheme: int) -> dict[str, Any]:
    """What axe-core finds in a page: `violations`, the rules it `checked`, whether it was `dark`.

    The page forbids scripts, so it is a copy in `folder` that is looked at, with axe-core in it.
    """
    if find_spec("axe_core_python") is None:
        pytest.skip("axe-core-python is not installed")
    library = resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    copy = folder / f"copy_{scheme}.html"
    allowed = text.replace("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';")
    assert allowed != text
    scripts = f"<script>{library}</script><script>{_SCRIPT}</script>"
    copy.write_text(allowed.replace("</body>", f"{scripts}</body>"), encoding="utf-8")
    return _found(open_page(copy, scheme).stdout)


def measured(text: str, folder: Path, width: int, expression: str) -> Any:
    """The value of JavaScript about `page`, in a window so many pixels wide, everything open."""
    frame = folder / f"frame_{width}.html"
    script = """
      const page = document.querySelector("iframe").contentDocument;
      page.querySelectorAll("details").forEach(each => each.open = true);
      const result = document.createElement("pre");
      result.id = "found";
      result.textContent = JSON.stringify({value: EXPRESSION});
      document.body.append(result);
    """
    script = script.replace("EXPRESSION", expression)
    frame.write_text(
        f'<!DOCTYPE html><body><iframe style="width: {width}px; border: 0" '
        f'srcdoc="{html.escape(text)}"></iframe>'
        f"<script>addEventListener('load', () => {{{script}}})</script></body>",
        encoding="utf-8",
    )
    return _found(open_page(frame, LIGHT).stdout)["value"]


def _found(dumped: str) -> dict[str, Any]:
    result = re.search(r'<pre id="found">(.*?)</pre>', dumped, re.DOTALL)
    assert result, f"the script did not finish: {dumped[-2000:]}"
    return json.loads(html.unescape(result[1]))
