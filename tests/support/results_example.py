"""Made-up but plausible results for the tests of results, tables and report. Not a measurement."""

import numpy as np

from simulations.results.measures import METRICS, MODELS
from simulations.results.schema import Results, popularity_curve, read_environment

SHOPS = {
    "Harbour Gifts": 812,
    "Nook & Cranny": 655,
    "Paper Lantern": 540,
    "The Tin Kettle": 471,
    "Meadow Lane": 402,
    "Bright Ideas": 318,
    "Corner Workshop": 241,
    "Little Owl": 166,
}
VALUES = {  # ndcg, tail, head, cold, coverage
    "popularity": (0.0433, 0.0, 0.052, 0.0, 0.02),
    "local_ease": (0.0888, 0.0027, 0.105, 0.0, 0.27),
    "frozen_text": (0.0835, 0.0438, 0.062, 0.055, 0.62),
    "fused_frozen": (0.1032, 0.0364, 0.092, 0.069, 0.53),
    "solo_adapter": (0.0861, 0.0412, 0.066, 0.052, 0.57),
    "adapter": (0.0985, 0.0446, 0.083, 0.053, 0.51),
    "fused": (0.1108, 0.0391, 0.101, 0.071, 0.47),
    "adapter_no_noise": (0.0979, 0.04, 0.082, 0.054, 0.49),
}
PARTS = (("text", 0.7), ("collaborative", 0.3))


def metrics():
    rows = {}
    for model, (ndcg, tail, head, cold, covered) in VALUES.items():
        rest = {
            "ndcg@10": ndcg,
            "recall@10": ndcg * 1.15,
            "precision@10": ndcg * 0.31,
            "f1@10": ndcg * 0.45,
            "auc": None if model == "popularity" else 0.62 + ndcg * 2,
            "tail_recall@10": tail,
            "tail_precision@10": tail * 0.3,
            "tail_f1@10": tail * 0.45,
            "tail_auc": None if model == "popularity" else 0.55 + tail * 2,
            "head_recall@10": head,
            "cold_recall@10": cold,
            "tail_by_volume_recall@10": tail * 0.8,
            "coverage@10": covered,
            "gini@10": 0.99 - covered * 0.5,
            "aplt@10": tail * 9,
        }
        assert list(rest) == list(METRICS)
        rows[model] = rest
    return rows


def intervals():
    no_interval = {"coverage@10", "gini@10"}
    rows = {
        model: {
            metric: {"mean": value, "low": value * 0.93, "high": value * 1.07}
            for metric, value in row.items()
            if metric not in no_interval and value is not None
        }
        for model, row in metrics().items()
    }
    differences = [
        {
            "model": model,
            "baseline": baseline,
            "metric": metric,
            "mean": (mean := metrics()[model][metric] - metrics()[baseline][metric]),
            "low": mean - 0.0041,
            "high": mean + 0.0041,
        }
        for model in ("adapter", "fused")
        for baseline in ("popularity", "local_ease", "frozen_text", "fused_frozen")
        for metric in ("ndcg@10", "tail_recall@10")
    ]
    return {
        "confidence": 0.95,
        "method": "paired bootstrap over shoppers, 2000 resamples",
        "metrics": rows,
        "differences": differences,
    }


def merchants(rng):
    shown = ("popularity", "local_ease", "frozen_text", "fused_frozen", "adapter", "fused")
    return [
        {
            "name": name,
            "shoppers": size,
            "cases": size // 4,
            "metrics": {
                model: {
                    "ndcg@10": max(VALUES[model][0] + rng.normal(0, 0.012), 0),
                    "tail_recall@10": max(VALUES[model][1] + rng.normal(0, 0.006), 0),
                }
                for model in shown
            },
        }
        for name, size in SHOPS.items()
    ]


def privacy():
    return {
        "unit": "one shopper at one merchant, add/remove",
        "dp_model": "local",
        "merchants": {
            name: {
                "epsilon": 3.98 - place * 0.01,
                "delta": 1 / (10 * size),
                "accountants": {"pld": 3.975, "prv": 3.98, "rdp": 4.38},
                "noise_multiplier": 2.16,
                "sample_rate": 0.25,
                "steps": 40,
                "max_grad_norm": 1.0,
            }
            for place, (name, size) in enumerate(SHOPS.items())
        },
        "statement": "Each shopper's purchases at one merchant are protected.\nMade-up numbers.",
    }


def rounds(rng):
    return [
        {
            "round": one,
            "epsilon": 3.98 * (one / 40) ** 0.55,
            "update_norm": 1.9 * 0.98**one + rng.normal(0, 0.02),
            "bytes_up": 8 * 6_400,
            "bytes_down": 8 * 6_400,
            "seconds": 1.9,
            "participants": 8,
            "ndcg@10": 0.0832 + 0.0151 * (1 - 0.92**one) + rng.normal(0, 0.0003),
            "tail_recall@10": 0.0438 + 0.0017 * (1 - 0.94**one) + rng.normal(0, 0.0002),
        }
        for one in range(1, 41)
    ]


def examples(count=5):
    titles = [
        ("Red enamel teapot, 1 litre", "Blue spotted mug", "Tin biscuit box with roses"),
        ("Paper lantern, moon and stars", "Fairy lights, warm white", "Candle in a jar, fig"),
        ("Oak picture frame A4", "Brass hook, fox", "Vintage map of the north"),
        ("Kids' apron with dinosaurs", "Wooden rolling pin, small", "Cookie cutters, woodland"),
        ("Gardening gloves, foxglove", "Seed tin with dividers", "Copper watering can"),
    ]
    found = [
        ("Red enamel milk jug", "head", 1.92),
        ("Enamel soup bowl, cream and red", "tail", 1.71),
        ("Tea towel, roses", "tail", 1.55),
        ("Ceramic tea strainer, hand-painted", "cold", 1.31),
        ("Mug tree, beech", "tail", 1.22),
    ]
    return [
        {
            "merchant": list(SHOPS)[place],
            "origin": "synthetic",
            "history": titles[place],
            "recommendations": [
                {
                    "title": title,
                    "score": score,
                    "parts": {part: score * share for part, share in PARTS},
                    "bucket": bucket,
                }
                for title, bucket, score in found
            ],
        }
        for place in range(count)
    ]


def results_fields(**changes):
    rng = np.random.default_rng(7)
    counts = np.sort((2600 / np.arange(1, 3601) ** 0.95).astype(int) - 1)[::-1].clip(0)
    return {
        "name": "Eight shops, one recommender",
        "created": "2026-11-24T10:30:00+00:00",
        "command": "fedtail simulate --marketplace --merchants 8 --rounds 40 --epsilon 4",
        "dataset": {
            "name": "marketplace, seed 0",
            "synthetic": True,
            "description": "Made up by a program that knows every shopper's true preferences.",
            "shoppers": 3605,
            "items": 3600,
            "interactions": int(counts.sum()),
            "cases": 901,
            "split": "global in time: the last 20% of the period",
            "partition": "Dirichlet over categories, 0.5",
            "popularity_curve": popularity_curve(counts),
        },
        "metrics": metrics(),
        "intervals": intervals(),
        "merchants": merchants(rng),
        "privacy": privacy(),
        "rounds": rounds(rng),
        "settings": {
            "merchants": 8,
            "rounds": 40,
            "epsilon": 4.0,
            "seed": 0,
            "adapter": {"dp_model": ["encoder.layer.5.output.dense"], "rank": 4},
            "loss": {"temperature": 0.1, "lambda": 0.5},
        },
        "environment": read_environment("0123abc"),
        "examples": examples(),
        "timing": {
            "total_seconds": 96.4,
            "phases": {"encode": 14.1, "train": 61.0, "evaluate": 21.3},
            "peak_memory_mb": 1490.0,
        },
        "release": {
            "version": "2026.11.24",
            "digest": "ab" * 32,
            "signing_key": "cd" * 32,
            "adapter_digest": "ef" * 32,
        },
        **changes,
    }


def example_results(**changes):
    assert set(VALUES) <= set(MODELS)
    return Results.model_validate(results_fields(**changes))
