import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

import client.recommending.model_history
from client.recommending.model_history import kept_models
from client.serving.feedback.online import Rate
from client.serving.page.experiments import Arm, Effect, ExperimentView
from common.errors import StorageError
from tests.support.served import SOURCE, event, made_cost, made_model
from tests.support.visits import PageCounter, Visitor

PAGES = ["/page/", "/page/lists", "/page/results", "/page/training", "/page/models", "/page/data"]
PARTS = ["/page/reach", "/page/training/outlook", "/page/data/worker"]


class MadeExperiments:
    """Experiments of a test."""

    def __init__(self, views=()):
        self.kept, self.calls = list(views), []

    def views(self):
        return tuple(self.kept)

    def choices(self):
        return ("own", "release")

    def start(self, name, baseline, challenger):
        self.calls.append(("start", name, baseline, challenger))
        arms = tuple(Arm(one, 0, Rate.of(0, 0)) for one in (baseline, challenger))
        self.kept.insert(0, ExperimentView(name, arms, "running", None))

    def stop(self, name):
        self.calls.append(("stop", name))
        self.kept = [replace(one, state="stopped", winner=one.arms[0].name) for one in self.kept]


@pytest.fixture
def fresh(tmp_path):
    found = PageCounter(tmp_path)
    yield found
    found.store.close()


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("path", [*PAGES, *PARTS])
def test_every_page_is_whole_in_each_language(counter, path, language):
    answer = Visitor(counter, language=language).get(path)
    assert answer.status_code == 200
    assert "{" not in re.sub(r"content='\{.*?\}'", "", answer.text)  # no place left unfilled
    if path in PAGES:
        assert answer.text.count("<h1") == 1
        assert ('lang="zh-Hans"' if language == "zh" else 'lang="en"') in answer.text
        assert 'aria-current="page"' in answer.text


def test_a_list_is_asked_for_by_shopper_and_comes_as_a_page_or_as_a_part(visitor):
    whole = visitor.post("/page/lists", {"shopper": "shopper-3"})
    part = visitor.post("/page/lists", {"shopper": "shopper-3"}, fragment=True)
    assert "<html" in whole.text
    assert "<html" not in part.text
    for text in (whole.text, part.text):
        assert text.count('class="rank"') == 10
        assert "shopper-3" in text
    assert 'hx-swap-oob="innerHTML">10 products' in part.text  # what a screen reader is told


def test_no_preview_is_counted_or_kept(counter, visitor):
    visitor.post("/page/lists", {"shopper": "shopper-3"})
    counter.store.lists.flush()
    digest = counter.live.snapshot.model.digest
    assert "Hardly any lists" in visitor.get("/page/reach").text
    assert counter.store.find_list("0" * 32) is None
    metrics = counter.ask("GET", "/metrics").text
    assert "fedtail_recommendations_total{" not in metrics
    assert digest


def test_moving_the_slider_changes_the_list_and_says_what_it_costs(visitor):
    def titles(boost):
        text = visitor.post("/page/lists", {"shopper": "shopper-3", "boost": boost}).text
        assert re.search(r"\d+ of 10 products are from the long tail or new", text)
        return re.findall(r'<p class="title">(.+?) <span', text)

    assert titles("0") != titles("2")
    assert titles("1") == titles("7") == titles("x")  # what is no setting is the usual one
    text = visitor.post("/page/lists", {"shopper": "shopper-3", "boost": "2"}).text
    assert "purchases from 100 such lists" in text


def test_a_history_is_typed_chosen_and_taken_back(counter, visitor):
    items = counter.live.snapshot.model.catalogue.items
    word = items[5].title.split()[0]
    text = visitor.post("/page/lists", {"words": word}).text
    assert "Which one do you mean?" in text
    assert 'name="add" value="item-' in text
    text = visitor.post("/page/lists", {"add": "item-5"}).text
    assert 'name="item" value="item-5"' in text
    text = visitor.post("/page/lists", {"item": ["item-5", "item-6"], "drop": "item-5"}).text
    assert 'value="item-5"' not in text
    assert 'name="item" value="item-6"' in text


def test_what_is_not_known_is_told_plainly(visitor):
    assert "no shopper of that id" in visitor.post("/page/lists", {"shopper": "nobody"}).text
    text = visitor.post("/page/lists", {"words": "no <b>such</b> thing"}).text
    assert "No product has the id or the words" in text
    assert "<b>such" not in text
    assert "no <b>such" not in text


def test_one_shopper_is_picked_by_chance(visitor):
    text = visitor.post("/page/lists", {"any": "1", "item": "item-5"}).text
    assert re.search(r'name="shopper" value="shopper-\d+"', text)
    assert 'name="item"' not in text


def test_results_have_their_intervals(fresh):
    visitor = Visitor(fresh)
    assert "No events came in this period" in visitor.get("/page/results").text
    fresh.service.now = lambda: int(datetime(2026, 9, 2, tzinfo=UTC).timestamp() * 10**6)
    answer = fresh.recommend(shopper_id="shopper-3")
    listed, name = answer["items"], answer["recommendation_id"]
    shown = [event(n, "impression", one["item_id"], recommendation_id=name) for n, one in
             enumerate(listed)]  # fmt: skip
    fresh.send(*shown, event(99, "click", listed[0]["item_id"], recommendation_id=name))
    text = visitor.get("/page/results").text
    low, high = (100 * getattr(Rate.of(1, 10), end) for end in ("low", "high"))
    assert f"{low:.1f}–{high:.1f}%" in text
    assert "10.0%" in visitor.get("/page/").text
    assert visitor.get("/page/results?days=x").status_code == 422


def test_going_back_serves_the_earlier_model_at_once(fresh):
    visitor = Visitor(fresh)
    first = fresh.live.snapshot.model.digest
    second = fresh.keep(made_model(seed=1))
    assert fresh.live.snapshot.model.digest == second
    text = visitor.get("/page/models").text
    assert first in text
    assert second in text
    answer = visitor.post("/page/models/roll-back", {"digest": first})
    assert answer.status_code == 200
    assert 'role="status"' in answer.text
    assert fresh.live.snapshot.model.digest == first
    assert visitor.post("/page/models/roll-back", {"digest": "0" * 64}).status_code == 422
    assert fresh.live.snapshot.model.digest == first


def test_going_back_to_another_release_has_it_read_the_new_items(fresh):
    first = fresh.live.snapshot.model.digest
    later = made_model(seed=1)
    digest = "d" * 64
    source = later.source.model_copy(update={"release": "2026.11.30", "release_digest": digest})
    fresh.keep(replace(later, source=source))
    fresh.worker.digest = digest
    fresh.ask("PUT", "/v1/items/new", json={"title": "Amber jug"})
    assert not fresh.live.snapshot.waiting
    fresh.worker.digest = SOURCE.release_digest  # as a worker that reads whose model serves
    Visitor(fresh).post("/page/models/roll-back", {"digest": first})
    assert fresh.live.snapshot.model.digest == first
    assert not fresh.live.snapshot.waiting
    assert fresh.live.snapshot.rankable[-1]


def test_a_worker_that_fails_undoes_no_going_back(fresh, monkeypatch):
    first = fresh.live.snapshot.model.digest
    fresh.keep(made_model(seed=1))

    def fail():
        raise StorageError("The worker process ended; try again.")

    monkeypatch.setattr(fresh.service, "place_waiting", fail)
    assert Visitor(fresh).post("/page/models/roll-back", {"digest": first}).status_code == 200
    assert fresh.live.snapshot.model.digest == first


def test_a_model_that_is_refused_is_not_left_for_the_next_start(fresh, monkeypatch):
    first = fresh.live.snapshot.model.digest
    second = fresh.keep(made_model(seed=1))

    def refuse(_):
        raise StorageError("The release is not verified.")

    monkeypatch.setattr(fresh.live, "_accepts", refuse)
    answer = Visitor(fresh).post("/page/models/roll-back", {"digest": first})
    assert answer.status_code == 503
    assert [one.digest for one in kept_models(fresh.folder / "model") if one.serves] == [second]


def test_a_full_disk_undoes_no_going_back_and_is_told(fresh, monkeypatch):
    first = fresh.live.snapshot.model.digest
    second = fresh.keep(made_model(seed=1))

    def full(*_, **__):
        raise OSError(28, "No space left on device", "shopper-3")

    monkeypatch.setattr(client.recommending.model_history, "write_atomic", full)
    answer = Visitor(fresh).post("/page/models/roll-back", {"digest": first})
    assert answer.status_code == 503
    assert "No space left" in answer.text
    assert "shopper-3" not in answer.text
    assert fresh.live.snapshot.model.digest == second


def test_the_budget_and_the_advice_stand_there(fresh):
    visitor = Visitor(fresh)
    text = visitor.get("/page/training/outlook").text
    assert "Measure first" in text
    assert "69% is left." in text
    visitor.post("/page/training/measure", {}, fragment=True)
    for _ in range(100):
        text = visitor.get("/page/training/outlook").text
        if "aria-busy" not in text:
            break
    assert ">Join<" in text
    # What is compared stands in the table below; the choice of one half is told beside it.
    assert "+0.020 <small>over your shop alone, with titles (97.5%: +0.010 to +0.030)" in text
    assert text.count("+0.100 (+0.080 to +0.130) over what looked best without others") == 1
    fresh.worker.next_run = lambda: made_cost(fits=False, spent_share=0.95, noise_that_fits=9.5)
    text = visitor.get("/page/training/outlook").text
    assert "Stay out for now" in text
    assert "a noise multiplier of 9.50" in text


def test_a_worker_that_is_down_is_told_and_the_rest_goes_on(fresh):
    def down():
        raise StorageError("The worker process ended; try again.", field="worker")

    fresh.worker.next_run = fresh.worker.budget = down
    visitor = Visitor(fresh)
    part = visitor.get("/page/training/outlook", fragment=True)
    assert part.status_code == 503
    assert "Lists go on being served" in part.text
    assert 'id="result"' in part.text  # in the place of what was asked for
    assert "does not answer" in visitor.get("/page/data/worker").text
    assert visitor.get("/page/").status_code == 200


def test_a_full_store_is_told_and_lists_go_on(fresh, monkeypatch):
    monkeypatch.setattr(fresh.store, "is_writable", lambda: False)
    visitor = Visitor(fresh)
    assert "the disk may be full" in visitor.get("/page/data").text
    assert "Needs a look" in visitor.get("/page/").text
    assert visitor.post("/page/lists", {"shopper": "shopper-3"}).status_code == 200


def test_an_experiment_shows_its_arms_its_state_and_who_won(tmp_path):
    view = ExperimentView(
        "Boost 1.5",
        (Arm("as fitted", 900, Rate.of(45, 900)), Arm("more tail", 880, Rate.of(70, 880))),
        "stopped",
        "more tail",
        Effect(0.03, 0.01, 0.05),
    )

    counter = PageCounter(tmp_path, experiments=MadeExperiments([view]))
    text = Visitor(counter).get("/page/results").text
    for needed in (
        "Boost 1.5",
        "stopped",
        "more tail won.",
        "+3.00 points (+1.00 to +5.00",
        "5.00%",
    ):
        assert needed in text
    counter.store.close()


def test_an_experiment_is_started_and_stopped_on_the_page(tmp_path):
    made = MadeExperiments()
    counter = PageCounter(tmp_path, experiments=made)
    visitor = Visitor(counter)
    assert "Start an experiment" in visitor.get("/page/results").text
    form = {"name": "boost", "baseline": "own", "challenger": "release"}
    assert visitor.post("/page/experiments/start", form).headers["location"] == "/page/results"
    text = visitor.get("/page/results").text
    assert "Not decided yet." in text
    assert "Start an experiment" not in text
    visitor.post("/page/experiments/stop", {"name": "boost"})
    assert "own won." in visitor.get("/page/results").text
    assert made.calls == [("start", "boost", "own", "release"), ("stop", "boost")]
    assert visitor.post("/page/experiments/start", form, csrf="x").status_code == 403
    counter.store.close()


def test_the_services_own_experiments_are_started_shown_and_stopped(fresh):
    visitor = Visitor(fresh)
    assert "No experiment runs." in visitor.get("/page/results").text
    form = {"name": "own-or-release", "baseline": "own", "challenger": "release"}
    for wrong in ({"name": "No Name"}, {"challenger": "own"}, {"baseline": "x"}):
        assert visitor.post("/page/experiments/start", form | wrong).status_code == 422
    assert visitor.post("/page/experiments/start", form).status_code == 303
    assert fresh.service.experiments.find("own-or-release").stopped is None
    text = visitor.get("/page/results").text
    assert "own-or-release" in text
    assert "Not decided yet." in text
    assert visitor.post("/page/experiments/stop", {"name": "another"}).status_code == 422
    visitor.post("/page/experiments/stop", {"name": "own-or-release"})
    assert "own won." in visitor.get("/page/results").text
    # All get the baseline now, and so does the preview.
    served = fresh.recommend(shopper_id="shopper-3")["items"]
    shown = visitor.post("/page/lists", {"shopper": "shopper-3"}).text
    items = fresh.live.snapshot.model.catalogue.items
    titles = [items[int(one["item_id"].removeprefix("item-"))].title for one in served]
    assert [shown.index(f'class="title">{one} ') for one in titles] == sorted(
        shown.index(f'class="title">{one} ') for one in titles
    )


def test_text_of_the_catalogue_is_never_markup(tmp_path):
    model = made_model()
    for item in model.catalogue.items:
        object.__setattr__(item, "title", f'<script>alert(1)</script>"{item.title}')
    counter = PageCounter(tmp_path, model)
    visitor = Visitor(counter)
    for path, form in (("/page/lists", {"shopper": "shopper-3"}), ("/page/lists", {"words": "a"})):
        assert "<script>alert" not in visitor.post(path, form).text
    counter.store.close()
