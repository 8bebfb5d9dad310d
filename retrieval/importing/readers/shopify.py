"""Shopify's exports of products and orders as CSV, by their columns of before 2025 and of since."""

from retrieval.importing.registry import Input, Reader, register_reader

PRODUCTS = {
    "handle": "Handle | URL handle", "title": "Title", "body": "Body (HTML) | Description", "vendor": "Vendor",
    "category": "Product Category", "type": "Type", "tags": "Tags", "status": "Status", "sku": "Variant SKU | SKU",
    "published": "Published | Published on online store", "price": "Variant Price | Price",
    "quantity": "Variant Inventory Qty | Inventory quantity", "image": "Image Src | Product image URL",
    "policy": "Variant Inventory Policy | Continue selling when out of stock", "barcode": "Variant Barcode | Barcode",
    "option1": "Option1 Value", "option2": "Option2 Value", "option3": "Option3 Value",
}  # fmt: skip
ORDERS = {
    "name": "Name", "email": "Email", "phone": "Phone", "status": "Financial Status", "created": "Created at",
    "cancelled": "Cancelled at", "quantity": "Lineitem quantity", "item": "Lineitem name", "sku": "Lineitem sku",
    "price": "Lineitem price",
}  # fmt: skip
SETUP = """
CREATE TABLE variants AS WITH numbered AS (SELECT row_number() OVER () AS place, * FROM products),
filled AS (SELECT * REPLACE (last_value(handle IGNORE NULLS) OVER (ORDER BY place) AS handle) FROM numbered),
parents AS (SELECT handle, any_value(title ORDER BY place) AS title, any_value(body ORDER BY place) AS body,
  any_value(vendor) AS vendor, coalesce(any_value(category), any_value(type)) AS category, any_value(tags) AS tags,
  any_value(lower(status)) AS status, any_value(published) AS published, any_value(image ORDER BY place) AS image
  FROM filled GROUP BY handle)
SELECT f.place, f.sku, f.price, f.quantity, lower(f.policy) AS policy, f.barcode, p.*, f.handle AS group_id,
  nullif(concat_ws(' / ', nullif(f.option1, 'Default Title'), f.option2, f.option3), '') AS options,
  coalesce(f.sku, concat_ws(' / ', f.handle, options)) AS item_id, concat_ws(' - ', p.title, options) AS full_title,
  coalesce(f.sku, f.price, f.option1, f.quantity, CASE WHEN f.title IS NOT NULL THEN 'alone' END) IS NULL AS is_image
FROM filled f JOIN parents p USING (handle);
CREATE TABLE lines AS WITH numbered AS (SELECT row_number() OVER () AS place, * FROM orders),
filled AS (SELECT * REPLACE (last_value(name IGNORE NULLS) OVER (ORDER BY place) AS name) FROM numbered),
heads AS (SELECT name, any_value(lower(coalesce(email, phone))) AS user_id, any_value(lower(status)) AS paid,
  any_value(created) AS made, any_value(cancelled) AS ended FROM filled GROUP BY name)
SELECT h.user_id, coalesce(f.sku, (SELECT min(item_id) FROM variants v WHERE v.full_title = f.item), f.item) AS item_id,
  h.made, h.ended, paid IN ('refunded', 'voided') OR ended IS NOT NULL AS given_back, f.quantity, f.price,
  name AS basket_id, f.place, CASE WHEN h.paid = 'expired' THEN 'order never paid'
    WHEN h.user_id IS NULL THEN 'order without an email or phone' WHEN f.quantity = '0' THEN 'line of no item' END
    AS left_out, CASE WHEN h.paid = 'partially_refunded' THEN 'order refunded in part, kept as bought' END AS note
FROM filled f JOIN heads h USING (name);
"""
ITEMS = """SELECT item_id, full_title AS title, category, vendor AS brand, price, body AS description, image, group_id,
  tags, barcode, CASE WHEN policy IN ('continue', 'true') THEN 'true' ELSE quantity END AS in_stock,
  CASE WHEN is_image THEN 'row of a further image' WHEN status IN ('draft', 'archived') THEN status || ' product'
    WHEN NOT read_flag(published) THEN 'hidden product' END AS left_out FROM variants ORDER BY place"""
EVENTS = """SELECT user_id, item_id, 'purchase' AS event, made AS timestamp, quantity, price, basket_id, left_out, note
FROM lines UNION ALL BY NAME SELECT user_id, item_id, 'return' AS event, quantity, price, basket_id,
  coalesce(ended, made) AS timestamp, if(ended IS NULL, 1, 0) AS seconds_later
FROM lines WHERE given_back AND left_out IS NULL"""

INPUTS = (
    Input(name="products", columns=PRODUCTS, required="handle title vendor"),
    Input(name="orders", columns=ORDERS, required="name status quantity item"),
)
TABLES = {"items": ITEMS, "events": EVENTS}
register_reader(Reader(name="shopify", title="Shopify", inputs=INPUTS, setup=SETUP, tables=TABLES))
