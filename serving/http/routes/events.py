"""What shoppers do, kept as it happens."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request

from retrieval.errors import BadRequest
from serving.http.access import BEARER, needs
from serving.http.answers import Answering
from serving.http.bodies import AnyEvents, EventsBody
from serving.http.observing.seen import note_events
from serving.http.routes.sending import run
from serving.http.shapes import RecordedShape

router = APIRouter(prefix="/v1", tags=["events"], dependencies=[Depends(BEARER), Depends(needs("write"))])


@router.post("/events", operation_id="record_events")
async def record(body: Annotated[AnyEvents, Body()], request: Request) -> RecordedShape:
    """Keep one event, or several: all of them or none. Once this has answered, no crash loses them.

    An event whose `event_id` is kept already is not kept again, so a call may be repeated until it answers.
    """
    answering: Answering = request.app.state.answering
    events = body.events if isinstance(body, EventsBody) else [body]
    if len(events) > answering.limits.events:
        raise BadRequest(f"there are {len(events):,} events; send {answering.limits.events:,} at most")
    given = [event.model_dump(exclude_none=True) for event in events]
    new = await run(request, lambda: answering.engine.record_many(given))
    note_events(request.scope, new)
    return RecordedShape(received=len(events), new=new)
