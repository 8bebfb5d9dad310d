"""Instacart Market Basket Analysis. The data has no dates: they are built from the days between a user's orders."""

from retrieval.importing.registry import Input, Reader, register_reader

ITEMS = """
SELECT item_id, title, nullif([c FOR c IN [department, aisle] IF c <> 'missing'], []) AS category
FROM products LEFT JOIN aisles USING (aisle_id) LEFT JOIN departments USING (department_id)
"""
# Each user's first order falls on its own day of the week from 2017-01-07 on, day 0 of the data being a Saturday.
EVENTS = """
SELECT user_id, item_id, 'purchase' AS event, order_id AS basket_id, placed AS timestamp
FROM lines JOIN (
    SELECT order_id, user_id, TIMESTAMP '2017-01-07' + to_hours(hour::INTEGER) + to_days(CAST(first(weekday::INTEGER)
        OVER earlier + sum(coalesce(try_cast(days AS DOUBLE), 0)) OVER earlier AS INTEGER)) AS placed
    FROM orders WINDOW earlier AS (PARTITION BY user_id ORDER BY number::INTEGER)
) USING (order_id) ORDER BY user_id, placed, position::INTEGER
"""
LINES = {"order_id": "order_id", "item_id": "product_id", "position": "add_to_cart_order"}
register_reader(
    Reader(
        name="instacart",
        title="Instacart",
        inputs=(
            Input(
                name="orders",
                columns={
                    "order_id": "order_id",
                    "user_id": "user_id",
                    "number": "order_number",
                    "weekday": "order_dow",
                    "hour": "order_hour_of_day",
                    "days": "days_since_prior_order",
                },
                required="order_id user_id number hour days",
            ),
            Input(name="lines", columns=LINES, required="order_id item_id position"),
            Input(
                name="products",
                columns={
                    "item_id": "product_id",
                    "title": "product_name",
                    "aisle_id": "aisle_id",
                    "department_id": "department_id",
                },
                required="item_id title aisle_id",
            ),
            Input(name="aisles", columns={"aisle_id": "aisle_id", "aisle": "aisle"}, required="aisle_id aisle"),
            Input(
                name="departments",
                columns={"department_id": "department_id", "department": "department"},
                required="department_id department",
            ),
        ),
        tables={"items": ITEMS, "events": EVENTS},
    )
)
