"""Small files in the layouts that the ready-made mappings know."""

import gzip
import json


def write_rows(path, rows, *, python=False):
    lines = "\n".join(repr(row) if python else json.dumps(row) for row in rows)
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())


def write_online_retail(folder):
    (folder / "2010-12-01.csv").write_text(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "536365,85123A,WHITE HEART HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n"
        "536365,71053,WHITE METAL LANTERN,6,2010-12-01 08:26:00,3.39,17850.0,United Kingdom\n"
        "536380,71053,WHITE METAL LANTERN,2,12/1/2010 9:41,3.39,17809.0,France\n"
        "536380,71053,white lantern?,2,12/1/2010 9:41,3.39,17809.0,France\n"
    )
    (folder / "2010-12-02.csv").write_text(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "C536379,71053,WHITE METAL LANTERN,-1,2010-12-02 09:41:00,3.39,14527.0,United Kingdom\n"
        "536381,POST,POSTAGE,1,2010-12-02 09:42:00,18.0,12583.0,France\n"
    )


def write_amazon_2014(folder):
    review = {"reviewerName": "x", "helpful": [2, 3], "summary": "s", "reviewTime": "09 13, 2009"}
    events = [("A1", "B1", 5.0, 1252800000), ("A1", "B2", 3.0, 1352800000), ("A2", "B1", 4, 1e9)]
    write_rows(
        folder / "reviews_Toys_5.json.gz",
        [
            {"reviewerID": s, "asin": i, "overall": v, "unixReviewTime": t, "reviewText": "t"}
            | review
            for s, i, v, t in events
        ],
    )
    write_rows(
        folder / "meta_Toys.json.gz",
        [
            {"asin": "B1", "title": "Girls' Tutu", "related": {"also_bought": ["B2"]},
             "price": 3.17, "brand": "Coxlures",
             "categories": [["Toys", "Dress"], ["Dance"]], "description": "Pink"},
            {"asin": "B2", "title": 'A "loud" drum', "categories": [["Toys"]]},
        ],
        python=True,
    )  # fmt: skip


def write_amazon_2018(folder):
    events = [("A1", "B1", 5.0, 1252800000), ("A1", "B2", 3.0, 1352800000), ("A2", "B1", 4.0, 1e9)]
    write_rows(
        folder / "Toys.json.gz",
        [
            {"reviewerID": s, "asin": i, "overall": v, "unixReviewTime": int(t), "reviewText": "t",
             "verified": True, "style": {"Color:": "Pink"}, "vote": "2"}
            for s, i, v, t in events
        ],
    )  # fmt: skip
    write_rows(
        folder / "meta_Toys.json.gz",
        [
            {"asin": "B1", "title": "Girls' Tutu", "brand": "Coxlures",
             "category": ["Toys", "Dress"], "description": ["Pink"], "also_buy": ["B2"]},
            {"asin": "B2", "title": 'A "loud" drum', "brand": "", "category": ["Toys"],
             "description": []},
        ],
    )  # fmt: skip


def write_amazon_2023(folder):
    events = [
        ("A1", "B1", 5.0, 1252800000123),
        ("A1", "B2", 3, 1352800000000),
        ("A2", "B1", 4, 10**12),
    ]
    write_rows(
        folder / "Toys.jsonl.gz",
        [
            {"user_id": s, "parent_asin": i, "asin": "V9", "rating": v, "timestamp": t, "text": "t",
             "title": "Great", "verified_purchase": True, "images": []}
            for s, i, v, t in events
        ],
    )  # fmt: skip
    write_rows(
        folder / "meta_Toys.jsonl.gz",
        [
            {"parent_asin": "B1", "title": "Girls' Tutu", "store": "Coxlures", "price": "12.5",
             "categories": ["Toys", "Dress"], "features": ["Cotton"], "description": ["Pink"]},
            {"parent_asin": "B2", "title": 'A "loud" drum', "store": None, "price": None,
             "categories": ["Toys"], "features": [], "description": []},
        ],
    )  # fmt: skip


def write_movielens(folder):
    (folder / "movies.csv").write_text(
        "movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n"
        '2,"Heat, The (1995)",Action\n'
    )
    (folder / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n7,1,4.0,964982703\n7,2,3.5,964982931\n8,1,5.0,964983000\n"
    )


def write_movielens_1m(folder):
    (folder / "movies.dat").write_text(
        '1::Toy Story (1995)::Animation|Children\'s\n2::Am\u00e9lie: "A" (2001)::Comedy\n',
        encoding="latin-1",
    )
    (folder / "ratings.dat").write_text(
        "7::1::4::964982703\n7::2::3::964982931\n8::1::5::964983000\n"
    )


LAYOUTS = {
    "online_retail": write_online_retail,
    "amazon_2014": write_amazon_2014,
    "amazon_2018": write_amazon_2018,
    "amazon_2023": write_amazon_2023,
    "movielens": write_movielens,
    "movielens_1m": write_movielens_1m,
}
