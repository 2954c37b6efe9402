"""Pictures of the page for the docs: python -m tests.support.screenshots --demo out/demo --out DIR.

The shop is the demo's, made up, in a copy; what its shoppers click is made up too, by a seed.
"""

import argparse
import io
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from PIL import Image

from client.recommending.shop_model import load_shop_model
from client.serving.keys import Keys
from tests.support.chromium import chromium

SECONDS = 900.0  # a shop without a model is fitted first
LISTS = 400
CLICKS = {"head": 0.085, "tail": 0.062, "new": 0.041}
DESK, PHONE = {"width": 1240, "height": 900}, {"width": 390, "height": 844}


@contextmanager
def opened(demo, shop):
    """`fedtail client open`; gives the address that lets one browser in."""
    program = "import sys, fedtail; fedtail.app(sys.argv[1:])"
    options = ["--release", demo / "release", "--key", demo / "operator.pub", "--shop", shop]
    command = [sys.executable, "-c", program, "client", "open", *map(str, options), "--no-browser"]
    log = shop / "open.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )
    try:
        end = time.monotonic() + SECONDS
        while "Uvicorn running" not in log.read_text():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(log.read_text())
            time.sleep(0.2)
        yield re.search(r"http://\S+ticket=\S+", log.read_text())[0]
    finally:
        process.terminate()
        process.wait()


def make_events(base, key, shoppers):
    """Serve lists to made-up shoppers who click by chance."""
    dice = random.Random(5)
    now = datetime.now(UTC) - timedelta(minutes=5)
    with httpx.Client(base_url=base, headers={"X-API-Key": key}, timeout=60) as client:
        for number in range(LISTS):
            body = {"shopper_id": dice.choice(shoppers), "count": 10}
            answer = client.post("/v1/recommendations", json=body).json()
            events = []
            for one in answer["items"]:
                usual = {
                    "item_id": one["item_id"],
                    "time": now.isoformat(),
                    "recommendation_id": answer["recommendation_id"],
                }
                name = f"{number}-{one['rank']}"
                events.append({"event_id": f"i{name}", "type": "impression", **usual})
                if dice.random() < CLICKS[one["bucket"]]:
                    events.append({"event_id": f"c{name}", "type": "click", **usual})
                    if dice.random() < 0.25:
                        events.append({"event_id": f"p{name}", "type": "purchase", **usual})
            client.post("/v1/events", json={"events": events}).raise_for_status()


def save(page, path, *, height=None):
    """Write what a page shows as a small PNG."""
    clip = None
    if height is not None:
        clip = {"x": 0, "y": 0, "width": page.viewport_size["width"], "height": height}
    shot = page.screenshot(full_page=True, clip=clip)
    image = Image.open(io.BytesIO(shot)).convert("RGB").quantize(96, dither=Image.Dither.NONE)
    image.save(path, optimize=True)
    sys.stdout.write(f"{path} {path.stat().st_size}\n")


def show_list(page, base, shopper, boost, words):
    """Open the list of a shopper at a boost, with the first explanation open."""
    page.goto(f"{base}/page/lists")
    page.locator("#shopper").fill(shopper)
    page.keyboard.press("Enter")
    page.get_by_text(shopper).first.wait_for()
    page.locator("#boost").fill(boost)
    page.locator(".cost-table tr.here th", has_text=words).first.wait_for()
    page.wait_for_load_state("networkidle")


def take(address, out, shoppers):
    """Take the pictures."""
    base = address.split("/page/")[0]
    with chromium() as browser:
        context = browser.new_context(viewport=DESK, locale="en-GB", color_scheme="light")
        page = context.new_page()
        page.goto(address)
        page.locator("#reach-heading").wait_for()
        save(page, out / "page-overview.png", height=830)
        show_list(page, base, shoppers[7], "1.5", "More tail")
        page.locator(".items details summary").first.click()
        save(page, out / "page-lists.png", height=1180)
        page.emulate_media(color_scheme="dark")
        page.goto(f"{base}/page/training")
        page.locator("#decision-heading").wait_for(timeout=120_000)
        page.get_by_role("button", name=re.compile("Measure")).click()
        page.locator("#gain-heading ~ table").first.wait_for(timeout=SECONDS * 1000)
        save(page, out / "page-training.png", height=1060)
        state = context.storage_state()
        phone = browser.new_context(
            viewport=PHONE, locale="zh-CN", color_scheme="dark", storage_state=state
        ).new_page()
        phone.goto(f"{base}/page/")
        phone.locator("#reach-heading").wait_for()
        save(phone, out / "page-phone.png", height=1060)


def main():
    """Serve a copy of the demo's first shop and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        original = min((given.demo / "merchants").glob("00-*"))
        shop = Path(folder) / original.name  # its ledger carries the name
        shutil.copytree(original, shop)
        for old in ("events.db", "benefit.json"):
            (shop / "node" / old).unlink(missing_ok=True)
        key = Keys(shop / "node" / "keys.json").new("pictures", ["serve", "events", "admin"])
        with opened(given.demo, shop) as address:
            shoppers = load_shop_model(shop / "model").purchases.shopper_ids
            make_events(address.split("/page/")[0], key, shoppers)
            take(address, given.out, shoppers)


if __name__ == "__main__":
    main()
