"""The page as a person meets it: in Chromium, on a desk and on a phone, by eye, key and reader."""

import re
from dataclasses import replace

import pytest

from client.serving.feedback.online import Rate
from client.serving.page.experiments import Arm, Effect, ExperimentView
from common.errors import StorageError
from tests.support.chromium import chromium, chromium_path
from tests.support.served import event, made_model
from tests.support.visits import PageCounter, listening

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make browser")
axe_module = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="axe is not installed: make browser"
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium_path() is None, reason="no Chromium; CHROMIUM=... names one"),
]

PAGES = ["", "lists", "results", "training", "models", "data"]
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
EXPERIMENT = ExperimentView(
    "More tail",
    (Arm("as fitted", 900, Rate.of(45, 900)), Arm("boost 1.5", 880, Rate.of(70, 880))),
    "running",
    None,
    Effect(0.03, -0.01, 0.07),
)


class OneExperiment:
    def __init__(self):
        self.kept = EXPERIMENT

    def views(self):
        return (self.kept,)

    def choices(self):
        return ("own", "release")

    def start(self, name, baseline, challenger):
        arms = tuple(Arm(one, 0, Rate.of(0, 0)) for one in (baseline, challenger))
        self.kept = ExperimentView(name, arms, "running", None)

    def stop(self, name):
        self.kept = replace(self.kept, state="stopped", winner=self.kept.arms[0].name)


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    experiments = OneExperiment()
    found = PageCounter(tmp_path_factory.mktemp("chromium"), experiments=experiments)
    found.experiments = experiments
    found.keep(made_model(seed=1))
    listed = found.recommend(shopper_id="shopper-3")
    name = listed["recommendation_id"]
    shown = [
        event(place, "impression", one["item_id"], recommendation_id=name)
        for place, one in enumerate(listed["items"])
    ]
    found.send(*shown)
    yield found
    found.store.close()


@pytest.fixture(scope="module")
def address(counter):
    with listening(counter) as found:
        yield found


@pytest.fixture(scope="module")
def browser(address):
    with chromium() as found:
        yield found


@pytest.fixture(params=SIZES)
def size(request):
    return SIZES[request.param]


class Visit:
    """A tab that is signed in, and what its console said."""

    def __init__(self, browser, counter, address, **context):
        self.context = browser.new_context(**{"locale": "en-GB", **context})
        self.page, self.address, self.said = self.context.new_page(), address, []
        self.page.on("console", lambda one: self.said.append((one.type, one.text)))
        self.page.on("pageerror", lambda error: self.said.append(("error", str(error))))
        self.page.goto(f"{address}/enter?ticket={counter.sessions.ticket()}")

    def go(self, path=""):
        self.page.goto(f"{self.address}/{path}")
        self.page.wait_for_load_state("networkidle")
        return self.page

    def quiet(self):
        """Whether the console had nothing to complain of."""
        return [one for one in self.said if one[0] in {"error", "warning"}] == []


@pytest.fixture
def visit(browser, counter, address, size):
    found = Visit(browser, counter, address, viewport=size)
    yield found
    found.context.close()


def findings(page):
    """What axe finds that keeps somebody out."""
    return [
        (one["id"], one["impact"], [node["target"] for node in one["nodes"]][:3])
        for one in axe_module.Axe().run(page).response["violations"]
        if one["impact"] in {"serious", "critical"}
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_open_to_everybody_and_fits_the_screen(visit, path, theme):
    visit.page.emulate_media(color_scheme=theme)
    page = visit.go(path)
    for one in page.locator("details").all():
        one.evaluate("one => one.open = true")
    assert findings(page) == []
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0
    assert page.locator("h1").count() == 1
    assert visit.quiet(), visit.said


def test_the_door_is_open_to_everybody_and_a_wrong_key_is_told(browser, counter, address, size):
    context = browser.new_context(viewport=size, locale="en-GB")
    page = context.new_page()
    page.goto(f"{address}/")
    assert findings(page) == []
    page.get_by_label("Admin key").fill("ft_00000000_x")
    page.keyboard.press("Enter")
    assert "no admin key" in page.get_by_role("alert").inner_text()
    assert findings(page) == []
    page.get_by_label("Admin key").fill(counter.keys.new("tab", ["admin"]))
    page.get_by_role("button", name="Open the page").click()
    assert page.get_by_role("heading", name="Your shop at a glance").is_visible()
    [cookie] = [one for one in context.cookies() if one["name"] == "fedtail_session"]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{address}/models")
    assert page.get_by_label("Admin key").is_visible()
    context.close()


def test_a_shoppers_list_changes_with_the_slider_by_keyboard_and_says_so(visit):
    page = visit.go("lists")
    page.get_by_label("Shopper's id").fill("shopper-3")
    page.keyboard.press("Enter")
    page.get_by_text("Shopper shopper-3:").wait_for()
    before = page.locator(".items .title").all_inner_texts()
    slider = page.get_by_role("slider")
    slider.focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    page.locator(".cost-table tr.here th", has_text="Long tail").wait_for()
    assert page.locator(".items .title").all_inner_texts() != before
    assert slider.evaluate("one => one === document.activeElement")
    assert slider.get_attribute("aria-valuetext") == "Long tail"
    said = page.locator("#said")
    assert re.search(r"10 products, \d+ of them", said.text_content())
    assert said.get_attribute("aria-live") == "polite"
    assert visit.quiet(), visit.said


def test_an_explanation_opens_by_keyboard_and_adds_up(visit):
    page = visit.go("lists")
    page.get_by_label("Shopper's id").fill("shopper-3")
    page.keyboard.press("Enter")
    page.get_by_text("Shopper shopper-3:").wait_for()
    first = page.locator(".items details").first
    first.locator("summary").focus()
    page.keyboard.press("Enter")
    rows = first.locator("tbody tr").all()
    numbers = [
        sum(float(cell.replace("−", "-")) for cell in row.locator("td").all_inner_texts())
        for row in rows
    ]
    assert sum(numbers[:-1]) == pytest.approx(numbers[-1], abs=0.06)  # each rounded to 0.01


def test_a_history_is_made_of_words_and_taken_back(visit, counter):
    title = counter.live.snapshot.model.catalogue.items[5].title
    page = visit.go("lists")
    words = page.get_by_label("Or what somebody bought")
    words.fill(title.split()[0])
    page.get_by_role("button", name="Add", exact=True).click()
    chips = page.locator(".note .chips button")
    chips.first.wait_for()
    chosen = chips.first.inner_text()
    chips.first.click()
    page.get_by_text("Bought, by your choice").wait_for()
    assert words.input_value() == ""
    page.get_by_role("button", name=f"Take out {chosen}").click()
    page.locator(".note", has_text="Nothing is known of this shopper yet").wait_for()
    words.fill("no such thing")
    page.keyboard.press("Enter")
    assert "No product has" in page.get_by_role("alert").inner_text()
    assert visit.quiet(), visit.said


def test_an_unknown_shopper_is_told(visit):
    page = visit.go("lists")
    page.get_by_label("Shopper's id").fill("nobody")
    page.keyboard.press("Enter")
    assert "no shopper of that id" in page.get_by_role("alert").inner_text()


def test_language_and_colours_are_chosen_and_remembered(visit):
    page = visit.go("results")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    page.get_by_role("button", name="中文").click()
    assert page.get_by_role("heading", name="列表带来了什么").is_visible()
    assert page.url.endswith("/results")
    page = visit.go("models")
    assert page.locator("html").get_attribute("lang") == "zh-Hans"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    assert findings(page) == []
    assert visit.quiet(), visit.said


def test_an_experiment_stands_there_is_stopped_and_another_started(visit, counter):
    counter.experiments.kept = EXPERIMENT
    page = visit.go("results")
    article = page.get_by_role("article")
    assert "More tail" in article.inner_text()
    assert "running" in article.inner_text()
    assert re.search(r"5\.00%\s*3\.\d\d?–6\.\d\d?%", article.inner_text())
    page.locator(".experiment summary").click()
    page.get_by_role("button", name="Yes, stop").click()
    assert "as fitted won." in page.get_by_role("article").inner_text()
    page.locator("summary", has_text="Start an experiment").click()
    page.get_by_label("Name", exact=True).fill("own-or-release")
    assert findings(page) == []
    page.get_by_role("button", name="Start an experiment").click()
    page.get_by_role("heading", name="own-or-release").wait_for()
    assert visit.quiet(), visit.said


def test_going_back_takes_two_steps_and_says_what_serves(visit, counter):
    page = visit.go("models")
    before = counter.live.snapshot.model.digest
    page.locator(".confirm summary").first.click()
    page.get_by_role("button", name=re.compile("Yes, serve this model")).click()
    assert "Done" in page.get_by_role("status").inner_text()
    assert page.locator("#done").evaluate("one => one === document.activeElement")
    assert counter.live.snapshot.model.digest != before
    assert findings(page) == []
    assert visit.quiet(), visit.said


def test_the_advice_is_plain_and_a_measure_is_made_beside_the_page(visit):
    page = visit.go("training")
    page.get_by_role("button", name=re.compile("Measure")).click()
    page.get_by_role("heading", name="Join", exact=True).wait_for()
    assert page.get_by_text("69% is left.").is_visible()
    assert findings(page) == []
    assert visit.quiet(), visit.said


def test_a_worker_that_is_down_leaves_a_plain_word_and_a_page_that_works(visit, counter):
    def down():
        raise StorageError("The worker process ended; try again.", field="worker")

    kept = counter.worker.next_run
    counter.worker.next_run = down
    try:
        page = visit.go("training")
        assert "Lists go on being served" in page.get_by_role("alert").inner_text()
        assert findings(page) == []
    finally:
        counter.worker.next_run = kept


def test_a_session_that_ended_leads_to_the_door(visit, counter):
    page = visit.go("lists")
    counter.sessions._by_hash.clear()
    page.get_by_label("Shopper's id").fill("shopper-3")
    page.keyboard.press("Enter")
    page.get_by_label("Admin key").wait_for()


def test_the_first_key_press_offers_the_way_to_the_content(visit):
    page = visit.go()
    page.keyboard.press("Tab")
    link = page.get_by_role("link", name="Skip to the content")
    assert link.evaluate("one => one === document.activeElement")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_the_list_is_there_without_a_script(browser, counter, address, size):
    visit = Visit(browser, counter, address, viewport=size, java_script_enabled=False)
    page = visit.page
    page.goto(f"{address}/lists")
    page.get_by_label("Shopper's id").fill("shopper-3")
    page.get_by_role("button", name="Show").click()
    assert page.locator(".items > li").count() == 10
    visit.context.close()


def test_nothing_is_asked_of_another_host(visit, address):
    asked = []
    visit.page.on("request", lambda one: asked.append(one.url))
    for path in PAGES:
        visit.go(path)
    assert all(one.startswith(address) for one in asked)
