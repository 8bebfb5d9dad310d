"""A product feed for Google Merchant Center, as tab-separated text or as XML (RSS or Atom)."""

from retrieval.importing.registry import Input, Reader, register_reader

FEED = {
    "id": "id", "title": "title", "description": "description | summary", "link": "link", "image": "image link",
    "price": "price", "sale": "sale price", "sale_dates": "sale price effective date", "availability": "availability",
    "brand": "brand", "gtin": "gtin", "mpn": "mpn", "google": "google product category", "types": "product type",
    "group_id": "item group id", "condition": "condition", "color": "color | colour", "size": "size",
    "gender": "gender", "age_group": "age group", "material": "material",
}  # fmt: skip
ITEMS = """WITH feed AS (SELECT *, CASE WHEN json_valid(types) AND types LIKE '[%' THEN from_json(types, '["VARCHAR"]')
  ELSE [types] END AS paths FROM products)
SELECT id AS item_id, title, coalesce(deepest(trimmed(paths)), CASE WHEN google LIKE '%>%' THEN google END) AS category,
  brand, coalesce(CASE WHEN sale_dates IS NULL THEN sale END, price) AS price, description, image, link,
  availability AS in_stock, gtin, mpn, group_id, condition, color, size, gender, age_group, material FROM feed"""

INPUT = Input(name="products", columns=FEED, required="id title link price availability")
register_reader(Reader(name="google-merchant", title="Google Merchant", inputs=(INPUT,), tables={"items": ITEMS}))
