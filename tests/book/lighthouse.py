"""Lighthouse's marks for pages of the built site, on a phone: ``make lighthouse PAGES="book/chapters/vit ..."``.

It is no test: it takes a minute or two a page, and Lighthouse from npm, through ``npx`` or as ``LIGHTHOUSE=path``. Each
page is loaded five times, and every figure is the median.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from tests.book.built import BASE, PAGES, ROOT
from tests.book.visiting import CHROMIUM, serving

SITE = ROOT / "_build/html"
TIMES = 5
LEAST = {"performance": 95, "accessibility": 100, "best-practices": 100, "seo": 100}
FIGURES = {
    "first-contentful-paint": "ms",
    "largest-contentful-paint": "ms",
    "total-blocking-time": "ms",
    "cumulative-layout-shift": "",
}


def report(address: str) -> dict:
    """What Lighthouse says of one page."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [
            *shlex.split(os.environ.get("LIGHTHOUSE", "npx --yes lighthouse@12")),
            address,
            f"--only-categories={','.join(LEAST)}",
            "--output=json",
            f"--output-path={file.name}",
            "--quiet",
            "--chrome-flags=--headless=new --no-sandbox --disable-gpu",
        ]
        subprocess.run(command, check=True, env={**os.environ, "CHROME_PATH": CHROMIUM or ""})
        return json.loads(Path(file.name).read_text(encoding="utf-8"))


def failed(found: dict) -> list[str]:
    """The audits of a category that asks for a hundred which were not passed, with the places."""
    lines = []
    for category in ("accessibility", "best-practices", "seo"):
        for entry in found["categories"][category]["auditRefs"]:
            audit = found["audits"][entry["id"]]
            if entry["weight"] and audit["score"] not in (None, 1):
                items = audit.get("details", {}).get("items", [])
                places = [item.get("node", {}).get("snippet") or str(item)[:200] for item in items[:3]]
                lines.append(f"    {category}: {audit['title']}: {places}")
    return lines


def main(names: list[str]) -> int:
    """Print one line for each page; 1 if some did not reach the marks."""
    short = False
    print("page", *LEAST, *FIGURES, sep=" | ")
    with serving(SITE, BASE.path) as address:
        for name in names:
            runs = [report(f"{address}/{name}.html") for _ in range(TIMES)]
            marks = {key: round(100 * median(run["categories"][key]["score"] for run in runs)) for key in LEAST}
            values = {key: median(run["audits"][key]["numericValue"] for run in runs) for key in FIGURES}
            shown = [f"{values[key]:.0f} ms" if unit else f"{values[key]:.3f}" for key, unit in FIGURES.items()]
            print(name, *marks.values(), *shown, sep=" | ", flush=True)
            for line in dict.fromkeys(line for run in runs for line in failed(run)):
                print(line, flush=True)
            short |= any(marks[key] < least for key, least in LEAST.items())
    return int(short)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or PAGES))
