"""Pages as a reader meets them: shown by headless Chromium on a desk and on a phone, with no network."""

import contextlib
import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import threading

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# Shows a page in a frame of a phone's width: a browser's own window has a least width.
PROBE = """<!doctype html><body style="margin:0"><iframe id="f" src="{page}" width="{width}" height="3000"></iframe>
<script>f.onload = () => setTimeout(() => {{
  const shown = f.contentWindow, page = f.contentDocument.documentElement
  const parts = [...f.contentDocument.querySelectorAll(".md-content *, body > *")]
  const wide = parts.filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth &&
    getComputedStyle(e).overflowX == "visible").map(e => e.tagName + "." + e.className).slice(0, 5)
  const fetched = shown.performance.getEntriesByType("resource").map(r => r.name)
  const broken = [...f.contentDocument.images].filter(i => i.loading != "lazy" && !i.naturalWidth).map(i => i.src)
  document.body.append(Object.assign(document.createElement("pre"), {{id: "seen", textContent: JSON.stringify({{
    width: page.scrollWidth, title: f.contentDocument.title, foreign: fetched.filter(n => !n.startsWith(location.origin)
    && !n.startsWith("data:") && !n.startsWith("blob:")), broken, wide}})}}))
}}, 500)</script>"""


@contextlib.contextmanager
def served(site):
    """The address of the folder ``site`` on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def browse(address, profile, *options):
    """Run the browser headless, with nothing but this machine within reach."""
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--virtual-time-budget=8000", *options, address,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def seen(site, served, profile, page, width):
    """What a page looks like in a frame of ``width`` pixels: see ``PROBE``."""
    probe = site / "probe.html"
    probe.write_text(PROBE.format(page=page, width=width), encoding="utf-8")
    dom = browse(f"{served}/probe.html", profile, f"--window-size={max(width, 800)},3000", "--dump-dom")
    match = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.S)
    assert match, f"{page} was not shown within the time: {dom[-500:]}"
    return json.loads(html.unescape(match[1]))
