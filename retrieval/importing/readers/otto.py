"""OTTO sessions as JSON lines: a user is a session, and items have an id and nothing else."""

from retrieval.importing.registry import Input, Reader, register_reader

SETUP = """
CREATE VIEW line AS SELECT session, line->>'aid' AS aid, line->>'ts' AS ts, line->>'type' AS type
FROM (SELECT session, each(events) AS line FROM sessions)
"""
ITEMS = "SELECT DISTINCT aid AS item_id, aid AS title FROM line ORDER BY aid"
EVENTS = """
SELECT session AS user_id, session AS session_id, aid AS item_id, ts AS timestamp,
    CASE type WHEN 'clicks' THEN 'click' WHEN 'carts' THEN 'cart' WHEN 'orders' THEN 'purchase' ELSE type END AS event
FROM line
"""
register_reader(
    Reader(
        name="otto",
        title="OTTO",
        inputs=(Input(name="sessions", columns={"session": "session", "events": "events"}, required="session events"),),
        setup=SETUP,
        tables={"items": ITEMS, "events": EVENTS},
    )
)
