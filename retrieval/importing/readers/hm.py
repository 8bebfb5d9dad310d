"""H&M Personalized Fashion: `articles.csv` and `transactions_train.csv`; `customers.csv` has nothing that is read."""

from retrieval.importing.registry import Input, Reader, register_reader

ITEMS = """
SELECT item_id, concat_ws(', ', name, colour) AS title, description, price, colour, kind AS product_type,
    [c FOR c IN [section, part, kind] IF c IS NOT NULL] AS category, group_id
FROM articles
LEFT JOIN (SELECT item_id, arg_max(price::DOUBLE, day) AS price FROM sales GROUP BY item_id) USING (item_id)
"""
EVENTS = """
SELECT user_id, item_id, 'purchase' AS event, day AS timestamp, count(*) AS quantity, avg(price::DOUBLE) AS price,
    user_id || ' ' || day AS basket_id
FROM sales GROUP BY user_id, item_id, day ORDER BY user_id, day, item_id
"""
register_reader(
    Reader(
        name="hm",
        title="H&M Personalized Fashion",
        inputs=(
            Input(
                name="articles",
                columns={
                    "item_id": "article_id",
                    "group_id": "product_code",
                    "name": "prod_name",
                    "colour": "colour_group_name",
                    "kind": "product_type_name",
                    "part": "product_group_name",
                    "section": "index_group_name",
                    "description": "detail_desc",
                },
                required="item_id group_id name",
            ),
            Input(
                name="sales",
                columns={"user_id": "customer_id", "item_id": "article_id", "day": "t_dat", "price": "price"},
                required="user_id item_id day",
            ),
        ),
        tables={"items": ITEMS, "events": EVENTS},
    )
)
