"""The report: whole in itself, safe from what titles say, and readable by people and machines."""

import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest

from common.release.statement_page import SENTENCES, TRUST
from simulations.report.html import (
    figures,
    findings,
    flatten,
    readable_bytes,
    render_report,
    tiles,
    write_report,
)
from simulations.results.measures import MODEL_NOTES, MODELS
from simulations.results.schema import load_results, popularity_curve, write_results
from tests.support.results_example import (
    example_results,
    examples,
    intervals,
    metrics,
    privacy,
    results_fields,
)

VOID = {"meta", "link", "br", "img", "hr", "input"}
ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


class Page(HTMLParser):
    """Collects what the tests ask about, and fails on a tag that is not closed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.open, self.text = Counter(), [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    def values(self, name):
        return [value for _, attribute, value in self.attributes if attribute == name]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def html():
    return render_report(example_results())


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_the_page_asks_for_nothing_and_runs_nothing(html, page):
    assert not {"script", "link", "iframe", "img", "object", "embed"} & set(page.tags)
    assert page.values("src") == []
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name.endswith("href"):
            assert value.startswith("#"), (tag, value)
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) <= {"#"}
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)
    assert "http:" not in without_namespaces
    assert "https:" not in without_namespaces
    assert "default-src 'none'" in html


def test_ids_are_unique_and_every_reference_has_its_target(html, page):
    ids = page.values("id")
    assert len(ids) > 50
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    wanted = [value[1:] for name in ("href", "xlink:href") for value in page.values(name)]
    wanted += re.findall(r"url\(#([^)]*)\)", html)
    for name in ("aria-labelledby", "aria-describedby"):
        wanted += [one for value in page.values(name) for one in value.split()]
    assert len(wanted) > 50
    assert set(wanted) <= set(ids)


def test_each_figure_is_named_and_described_for_who_cannot_see_it(page):
    assert page.tags["svg"] == 8
    assert page.tags["desc"] == 8
    assert page.values("role").count("img") == 8
    assert page.tags["figure"] == 8
    assert "lang" in {name for tag, name, _ in page.attributes if tag == "html"}
    assert page.tags["h1"] == 1
    assert all(value for tag, name, value in page.attributes if tag == "th" and name == "scope")
    assert "Tail recall@10 by model: Popularity 0.0000; Local EASE 0.0027" in page.words


def test_text_in_figures_stays_text(html):
    svg = html[html.index("<svg") : html.index("</svg>")]
    assert re.search(r"<text[^>]*>Frozen text</text>", svg)


def test_a_script_in_any_name_is_escaped():
    bad = examples()
    bad[0] |= {"merchant": ATTACK, "history": [ATTACK]}
    bad[0]["recommendations"][0] |= {"title": ATTACK, "parts": {ATTACK: 1.0}}
    shops = results_fields()["merchants"]
    shops[0]["name"] = ATTACK
    spent = privacy()
    spent["merchants"][ATTACK] = next(iter(spent["merchants"].values()))
    spent["statement"] = spent["unit"] = ATTACK
    rows = {**metrics(), ATTACK: metrics()["adapter"]}
    compared = intervals()
    compared["differences"][0] |= {"model": ATTACK, "baseline": ATTACK}
    data = {**results_fields()["dataset"]}
    data |= dict.fromkeys(("name", "description", "split", "partition"), ATTACK)
    text = render_report(
        example_results(
            name=ATTACK,
            command=ATTACK,
            examples=bad,
            merchants=shops,
            privacy=spent,
            metrics=rows,
            intervals=compared,
            dataset=data,
            settings={ATTACK: ATTACK, "list": [ATTACK]},
        )
    )
    found = Page(text)
    assert "<script" not in text
    assert "<img" not in text
    assert not {"script", "img"} & set(found.tags)
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    assert found.words.count("<script>alert(1)</script>") >= 15


def test_the_page_says_whether_the_data_is_synthetic(page):
    assert "This data is synthetic." in page.words
    assert "they say nothing about a real shop" in page.words
    real = {**results_fields()["dataset"], "synthetic": False}
    words = Page(render_report(example_results(dataset=real, examples=[]))).words
    assert "synthetic" not in words.lower()
    assert "Real data" in words


def test_the_page_shows_values_intervals_and_verdicts(page):
    for text in (
        "0.1108",
        "0.1030 to 0.1186",
        "+0.0220",
        "+0.0179 to +0.0261",
        "▲ higher",
        "▼ lower",
        "○ unclear",
        "ε = 3.98",
        "1.2 × 10⁻⁴",
        "head: 92% of sales",
        "fedtail simulate --marketplace",
        "loss.temperature",
        "Red enamel milk jug",
        "Each shopper's purchases at one merchant are protected.",
    ):
        assert text in page.words, text
    assert [text for text in TRUST.values() if text in page.words] == [TRUST["local"]]
    assert all(text in page.words for text in SENTENCES.values())
    for name in example_results().privacy.merchants:
        assert name in page.words


def test_the_best_of_a_column_is_marked_once(html):
    table = html[html.index('id="ranks"') : html.index("</table>")]
    rows = re.findall(r'<tr.*?<th scope="row">(.*?)</th>(.*?)</tr>', table, re.DOTALL)
    marked = {label: cells.count('class="best"') for label, cells in rows}
    assert marked["Adapter, fused"] == 3  # overall, recall, cold
    assert sum(marked.values()) == 6  # one a column


def test_a_run_without_noise_is_said_to_have_no_guarantee():
    spent = {**privacy(), "dp_model": "none"}
    for one in spent["merchants"].values():
        one |= {"epsilon": None, "delta": None, "accountants": {}}
    rounds = results_fields()["rounds"]
    for one in rounds:
        one["epsilon"] = None
    found = example_results(privacy=spent, rounds=rounds)
    words = Page(render_report(found)).words
    assert TRUST["none"] in words
    assert "ε = " not in words
    assert figures.epsilon_by_round(found) is None


def test_findings_say_no_more_than_the_intervals(page):
    lines = findings(example_results())
    assert lines[0].startswith("Adapter, fused against local EASE: NDCG@10 higher, +0.0220")
    assert "Tail recall@10 lower, −0.0047 (−0.0088 to −0.0006)" in lines[1]
    assert lines[2].startswith("Adapter, fused against frozen text, fused: NDCG@10 higher, +0.0076")
    wide = intervals()
    for one in wide["differences"]:
        one |= {"low": one["mean"] - 1, "high": one["mean"] + 1}
    assert all("not told apart" in line for line in findings(example_results(intervals=wide)))
    none = {**intervals(), "differences": []}
    assert findings(example_results(intervals=none)) == []
    assert "Which differences hold" not in render_report(example_results(intervals=none))


def test_on_top_stands_what_a_shop_has_alone_with_titles_too():
    """Local EASE alone would credit the federation with what titles and the trend bring."""
    results = example_results()
    names, values, beside = zip(*tiles(results)[:2], strict=True)
    assert names == ("NDCG@10, adapter, fused", "Tail recall@10, adapter, fused")
    for place, metric in enumerate(("ndcg@10", "tail_recall@10")):
        ease, frozen = (results.metrics[one][metric] for one in ("local_ease", "fused_frozen"))
        assert values[place] == f"{results.metrics['fused'][metric]:.4f}"
        assert beside[place] == f"local EASE {ease:.4f}; frozen text, fused {frozen:.4f}"


def test_bytes_are_counted_by_merchant_and_round():
    name, value, beside = tiles(example_results())[3]
    assert (name, value, beside) == ("Sent per merchant and round", "6.4 kB", "2.0 MB in all")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_048_000, "2.0 MB"), (5.2e9, "5.2 GB")],
)
def test_bytes_are_readable(count, text):
    assert readable_bytes(count) == text


def test_settings_are_flattened():
    nested = {"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None, "f": {}}
    assert list(flatten(nested)) == [
        ("a.b.c", "1"),
        ("a.d", "1, 2"),
        ("e", "not set"),
        ("f", "{}"),
    ]


def test_every_known_model_is_explained():
    assert set(MODEL_NOTES) == set(MODELS)


def small(counts, **changes):
    curve = popularity_curve(np.array(counts))
    return {"dataset": {**results_fields()["dataset"], "popularity_curve": curve}, **changes}


SMALL = {
    "one of each": small(
        [4],
        merchants=results_fields()["merchants"][:1],
        rounds=results_fields()["rounds"][:1],
        metrics={"popularity": metrics()["popularity"]},
        examples=[],
        release=None,
    ),
    "none": small(
        [0, 0, 0], merchants=[], rounds=[], examples=[{**examples()[0], "recommendations": []}]
    ),
    "nothing measured": small(
        [3, 1],
        merchants=[{"name": "x", "shoppers": 1, "cases": 0, "metrics": {}}] * 2,
        rounds=[
            {key: value for key, value in one.items() if not key.endswith("@10")}
            for one in results_fields()["rounds"]
        ],
        metrics={model: dict.fromkeys(row) for model, row in metrics().items()},
        intervals={**intervals(), "metrics": {}},
    ),
}


@pytest.mark.parametrize("case", SMALL)
def test_a_run_with_little_to_tell_still_has_a_page(case):
    found = Page(render_report(example_results(**SMALL[case])))
    ids = found.values("id")
    assert len(ids) == len(set(ids))


def test_names_of_any_script_and_length_are_drawn():
    shops = results_fields()["merchants"]
    shops[0]["name"] = "上海茶馆"
    shops[1]["name"] = r"$\frac{1}{0}$ store"
    shops[2]["name"] = "A shop whose name goes on and on and does not find its end"
    shops[3]["name"] = "x" * 300
    picture = figures.merchant_spread(example_results(merchants=shops), "ndcg@10")
    drawn = picture.svg.split("</desc>")[1]
    assert ">上海茶馆<" in drawn
    assert r">$\frac{1}{0}$ store<" in drawn
    assert ">A shop whose name goes on…<" in drawn
    assert "x" * 27 not in drawn
    assert "x" * 300 in picture.description


def test_a_federation_of_many_merchants_fits():
    shops = [{**results_fields()["merchants"][0], "name": f"shop {one}"} for one in range(64)]
    picture = figures.merchant_spread(example_results(merchants=shops), "ndcg@10")
    height = float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', picture.svg).group(1))
    assert height > 64 * 20


def test_the_same_results_give_the_same_page(tmp_path, html):
    found = example_results()
    write_results(found, tmp_path / "results.json")
    write_report(load_results(tmp_path / "results.json"), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == html


def luminance(colour):
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_colours_have_the_contrast_that_wcag_asks_for(html):
    named = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", html))
    for ground in ("paper", "ground"):
        for text in ("ink", "muted", "teal", "amber"):
            assert contrast(named[text], named[ground]) >= 4.5, (text, ground)
    assert contrast(named["teal"], named["teal-wash"]) >= 4.5
    assert contrast(named["amber"], named["amber-wash"]) >= 4.5
    for mark in (figures.GREY, figures.LIGHT_TEAL, figures.TEAL, figures.AMBER):
        assert contrast(mark, "#ffffff") >= 3, mark
    assert contrast(figures.TEAL, figures.LIGHT_TEAL) >= 1.8  # told apart without hue
