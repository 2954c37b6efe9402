"""Samples of platforms' exports, as their documentation shows them: one small shop in each."""

import csv
import io
import json

GOODS = [  # handle, product, option, sku, category
    ("oak-lamp", "Oak Lamp", "Small", "OL-S", "Lighting"),
    ("oak-lamp", "Oak Lamp", "Large", "OL-L", "Lighting"),
    ("tea-towel", "Tea Towel", "Red", "TT-R", "Linens"),
    ("tea-towel", "Tea Towel", "Blue", "TT-B", "Linens"),
    ("mug", "Blue Mug", "", "MUG", "Kitchen"),
    ("pot", "Clay Pot", "", "007", "Kitchen"),
]
TITLES = {sku: f"{product} - {option}" if option else product
          for _, product, option, sku, _ in GOODS}  # fmt: skip
# Order, shopper, day, skus, and whether it was called off.
ORDERS = [
    (f"{1000 + n}", f"p{n % 7}@example.com", f"2026-{1 + n // 9:02}-{1 + 3 * (n % 9):02}",
     (GOODS[n % 6][3], GOODS[(n + 1 + n // 6) % 6][3]), n % 8 == 3)
    for n in range(36)
]  # fmt: skip
KEPT = sorted(
    {(shopper, sku, day) for _, shopper, day, skus, off in ORDERS if not off for sku in set(skus)}
)


def _csv(path, header, rows, separator=",", encoding="utf-8"):
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=separator, lineterminator="\r\n").writerows([header, *rows])
    path.write_bytes(stream.getvalue().encode(encoding))


def shopify(folder, *, new=False):
    header = ["Handle", "Title", "Body (HTML)", "Vendor", "Type", "Tags", "Option1 Name",
              "Option1 Value", "Variant SKU", "Image Src", "Status"]  # fmt: skip
    if new:
        renamed = {"Handle": "URL handle", "Body (HTML)": "Description", "Variant SKU": "SKU",
                   "Option1 Name": "Option1 name", "Option1 Value": "Option1 value"}  # fmt: skip
        header = [renamed.get(name, name) for name in header]
    rows, seen = [], set()
    for handle, product, option, sku, category in GOODS:
        first = handle not in seen
        seen.add(handle)
        shared = [product, f"<p>{product}\nof ours</p>", "Lumen", category, "a, b", "Size"]
        rows.append([handle, *(shared if first else [""] * 6), option or "Default Title", sku,
                     "https://x/1.jpg", "active" if first else ""])  # fmt: skip
    rows.append(["mug", *[""] * 8, "https://x/2.jpg", ""])
    rows.append(
        ["secret", "Next Year", "", "", "", "", "Title", "Default Title", "NEW", "", "draft"]
    )
    _csv(folder / "products_export_1.csv", header, rows)
    lines = []
    for order, shopper, day, skus, off in ORDERS:
        for place, sku in enumerate(skus):
            state = ("refunded" if off else "paid") if place == 0 else ""
            lines.append([f"#{order}", shopper.title() if place else shopper, state,
                          f"{day} 10:00:00 +0000", 1, TITLES[sku], "9.50", sku,
                          f"{day} 12:00:00 +0000" if off and place == 0 else ""])  # fmt: skip
    _csv(folder / "orders_export_1.csv",
         ["Name", "Email", "Financial Status", "Created at", "Lineitem quantity", "Lineitem name",
          "Lineitem price", "Lineitem sku", "Cancelled at"], lines)  # fmt: skip


def shopify_new(folder):
    shopify(folder, new=True)


def _woo(folder, header, separator):
    rows = [[n, "simple", sku, TITLES[sku], 1, f"<p>{product}</p>", f"Home > {category}"]
            for n, (_, product, _, sku, category) in enumerate(GOODS)]  # fmt: skip
    rows.append([99, "simple", "NEW", "Next Year", -1, "", ""])
    _csv(folder / "wc-product-export.csv", header, rows, separator)
    lines = [[order, "Refunded" if off else "Completed", f"{day} 10:00", shopper, sku, TITLES[sku],
              1, "9.50"] for order, shopper, day, skus, off in ORDERS for sku in skus]  # fmt: skip
    _csv(folder / "orders.csv",
         ["Order Number", "Order Status", "Order Date", "Email (Billing)", "SKU", "Item Name",
          "Quantity (- Refund)", "Item Cost"], lines, separator)  # fmt: skip


def woocommerce(folder):
    header = ["ID", "Type", "SKU", "Name", "Published", "Description", "Categories"]
    _woo(folder, header, ",")


def woocommerce_german(folder):
    header = ["ID", "Typ", "Artikelnummer", "Name", "Veröffentlicht", "Beschreibung", "Kategorien"]
    _woo(folder, header, ";")


def ga4(folder):
    def event(kind, shopper, day, skus, order=None):
        items = [
            {
                "item_id": sku,
                "item_name": TITLES[sku],
                "item_brand": "Lumen",
                "item_category": "Home",
                "price": 9.5,
                "quantity": 1,
            }
            for sku in skus
        ]
        record = {"transaction_id": order} if order else None
        moment = int(day[5:7]) * 2_678_400 + int(day[8:]) * 86_400 + 1_767_000_000
        return {"event_date": day.replace("-", ""), "event_timestamp": f"{moment}000000",
                "event_name": kind, "user_pseudo_id": shopper, "ecommerce": record,
                "items": items, "device": {"category": "mobile"}}  # fmt: skip

    lines = []
    for order, shopper, day, skus, off in ORDERS:
        lines.append(event("page_view", shopper, day, []))
        lines.append(event("purchase", shopper, day, skus, order))
        if off:
            lines.append(event("refund", shopper, day, [], order))
    (folder / "events-000000000000.json").write_text("\n".join(map(json.dumps, lines)))


def _orders_of_common_names(folder):
    lines = [[shopper, sku, day, order] for order, shopper, day, skus, off in ORDERS if not off
             for sku in skus]  # fmt: skip
    _csv(folder / "orders.csv", ["customer_id", "sku", "created_at", "order_id"], lines)


def google_merchant_tsv(folder):
    rows = [[sku, TITLES[sku], product, "https://x", "in stock", "9.50 EUR", "Lumen", category]
            for _, product, _, sku, category in GOODS]  # fmt: skip
    _csv(folder / "feed.tsv", ["id", "title", "description", "link", "availability", "price",
                               "brand", "product type"], rows, "\t")  # fmt: skip
    _orders_of_common_names(folder)


def google_merchant_xml(folder):
    entries = "".join(
        f"<item><g:id>{sku}</g:id><title><![CDATA[{TITLES[sku]}]]></title><description>{product}"
        f" &amp; more</description><link>https://x</link><g:brand>Lumen</g:brand></item>"
        for _, product, _, sku, _ in GOODS
    )
    (folder / "feed.xml").write_text(
        '<?xml version="1.0"?><rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel>'
        f"<title>Shop</title>{entries}</channel></rss>"
    )
    _orders_of_common_names(folder)


def magento(folder):
    rows = [[sku, "", "Default", TITLES[sku], f"<p>{product}</p>", category, 1]
            for _, product, _, sku, category in GOODS]  # fmt: skip
    _csv(
        folder / "catalog_product.csv",
        [
            "sku",
            "store_view_code",
            "attribute_set_code",
            "name",
            "description",
            "categories",
            "product_online",
        ],
        rows,
    )
    lines = [[order, shopper, f"{day} 10:00:00", sku, "1.0000", "9.5000",
              "canceled" if off else "complete"]
             for order, shopper, day, skus, off in ORDERS for sku in skus]  # fmt: skip
    _csv(folder / "orders.csv", ["increment_id", "customer_email", "created_at", "sku",
                                 "qty_ordered", "price", "status"], lines)  # fmt: skip


def taobao(folder):
    lines = [[f'="{order}"', shopper, sku, TITLES[sku], f"{day} 10:00:00", 1, "9.50",
              "交易关闭" if off else "交易成功"]
             for order, shopper, day, skus, off in ORDERS for sku in skus]  # fmt: skip
    _csv(
        folder / "ExportOrderList.csv",
        [
            "订单编号",
            "买家会员名",
            "商家编码",
            "宝贝标题",
            "订单创建时间",
            "宝贝数量",
            "价格",
            "订单状态",
        ],
        lines,
    )


SAMPLES = {
    one.__name__: one
    for one in (shopify, shopify_new, woocommerce, woocommerce_german, ga4, google_merchant_tsv,
                google_merchant_xml, magento, taobao)
}  # fmt: skip
