"""The audit log: what it keeps and does not keep, how it rotates, and that it never fails a request."""

from __future__ import annotations

import json
import logging
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine_changes import changed
from retrieval.data.dataset import DataSet
from retrieval.errors import BadConfig, BadData
from serving import AuditLog, Engine, Request
from serving.audit.records import CURRENT, AuditRecord, read_records

BUYER = "shopper-00001"
RECORD = AuditRecord(at=1, asked={"task": "search"}, release="r", index_revision=0, items=["a"], scores=[1.0])


def audited(engine: Engine, folder: Path, **options: Any) -> Engine:
    """An engine of the same release that keeps what it answers."""
    return Engine(engine.state, audit=AuditLog(folder, **options))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / CURRENT).read_text("utf-8").splitlines()]


def test_an_answer_is_kept_with_what_made_it(engine: Engine, tmp_path: Path) -> None:
    answer = audited(engine, tmp_path, clock=lambda: 7).recommend(user_id=BUYER, k=3, rerank=False)
    (kept,) = lines(tmp_path)
    assert kept["items"] == [hit.item_id for hit in answer.items]
    assert kept["scores"] == pytest.approx([hit.score for hit in answer.items], abs=1e-5)
    assert (kept["at"], kept["release"], kept["asked"]) == (
        7, answer.release, {"task": "recommend", "k": 3, "rerank": False}
    )  # fmt: skip
    assert kept["timings_ms"] == pytest.approx(answer.timings_ms)


def test_nothing_personal_is_kept_unless_it_is_asked_for(engine: Engine, data: DataSet, tmp_path: Path) -> None:
    history = [data.item_ids[5]]
    asked = [Request(user_id=BUYER, query="a very private wish"), Request(history=history)]
    silent, open_log = audited(engine, tmp_path / "silent"), audited(engine, tmp_path / "open", inputs=True)
    for request in asked:
        silent.answer(request)
        open_log.answer(request)
    written = (tmp_path / "silent" / CURRENT).read_text("utf-8")
    assert BUYER not in written
    assert "private" not in written
    assert all("inputs" not in line and "features" not in line for line in lines(tmp_path / "silent"))
    assert [line["inputs"] for line in lines(tmp_path / "open")] == [
        {"user_id": BUYER, "query": "a very private wish"}, {"history": history}
    ]  # fmt: skip


def test_a_shopper_is_one_hash_in_a_log_and_another_in_another_log(tmp_path: Path) -> None:
    one, same, other = AuditLog(tmp_path / "a"), AuditLog(tmp_path / "a"), AuditLog(tmp_path / "b")
    assert one.user_hash(BUYER) == same.user_hash(BUYER) != other.user_hash(BUYER)
    assert one.user_hash("shopper-00002") != one.user_hash(BUYER)
    assert (tmp_path / "a" / "key").stat().st_mode & 0o077 == 0


def test_a_share_of_the_requests_is_kept(engine: Engine, tmp_path: Path) -> None:
    log = audited(engine, tmp_path, sample=0.3)
    for _ in range(200):
        log.recommend(k=1, rerank=False)
    assert 25 < len(lines(tmp_path)) < 100


def test_full_files_are_put_aside_and_the_oldest_removed(tmp_path: Path) -> None:
    ticks = iter(range(10**6))
    log = AuditLog(tmp_path, max_bytes=500, files=2, clock=lambda: next(ticks))
    for at in range(40):
        log.write(replace_at(at))
    kept = [record.at for record in read_records(tmp_path) if record is not None]
    assert kept == list(range(kept[0], 40))
    assert kept[0] > 0
    assert len(list(tmp_path.glob("audit-*.jsonl"))) == 2


def replace_at(at: int) -> AuditRecord:
    return RECORD.model_copy(update={"at": at})


def test_no_line_of_several_writers_is_lost_or_torn_while_files_rotate(tmp_path: Path) -> None:
    def write(first: int) -> None:
        log = AuditLog(tmp_path, max_bytes=2_000, files=1_000)
        for at in range(first, first + 100):
            log.write(replace_at(at))

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 100, 200)]
    child = os.fork()
    if child == 0:
        write(300)
        os._exit(0)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.waitpid(child, 0)[1] == 0
    records = list(read_records(tmp_path))
    assert sorted(record.at for record in records if record is not None) == list(range(400))
    assert None not in records


def test_a_forgotten_shopper_is_in_no_file(engine: Engine, tmp_path: Path) -> None:
    log = AuditLog(tmp_path, inputs=True, max_bytes=3_000)
    asked = Engine(engine.state, audit=log)
    for _ in range(12):
        asked.recommend(user_id=BUYER, k=2)
        asked.recommend(user_id="shopper-00002", k=2)
    assert len(list(tmp_path.glob("*.jsonl"))) > 1
    assert log.forget(BUYER, 0).removed == (f"{tmp_path}: 12 requests of the audit log",)
    assert log.forget(BUYER, 0).removed == ()
    kept = [record.inputs for record in read_records(tmp_path) if record is not None]
    assert kept == [{"user_id": "shopper-00002"}] * 12
    for path in tmp_path.iterdir():
        assert BUYER.encode() not in path.read_bytes()


def test_a_log_that_cannot_be_written_fails_no_request_and_is_said_once(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    log = audited(engine, tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert log.recommend(user_id=BUYER, k=2).items
    assert [record.message for record in caplog.records if "audit" in record.message] == [
        f"requests are answered without an audit log: {tmp_path / 'file'}: "
        f"[Errno 17] File exists: '{tmp_path / 'file'}'"
    ]


def test_a_request_that_is_no_json_is_answered_all_the_same(engine: Engine, tmp_path: Path) -> None:
    log = audited(engine, tmp_path, inputs=True)
    assert log.search("mug \ud800", k=2).items
    assert log.recommend(k=2, filters=[("price", "<", np.int64(900))]).items
    assert log.search("mug", k=2).items
    assert len(lines(tmp_path)) >= 1


@pytest.mark.parametrize("options", [{"sample": 0}, {"sample": 1.5}, {"max_bytes": 0}, {"files": 0}])
def test_what_is_out_of_range_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(BadConfig, match="give"):
        AuditLog(tmp_path, **options)


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="holds no audit log"):
        list(read_records(tmp_path))


def test_every_field_of_a_request_comes_back(engine: Engine, tmp_path: Path) -> None:
    request = Request(
        user_id=BUYER, query="mug", k=4, filter_seen=False, rerank=False, filters=[("price", "<", 900.0)],
        spellcheck=False, diversity=0.2, diversify_by="dpp", one_per_group=False,
    )  # fmt: skip
    audited(engine, tmp_path, inputs=True).answer(request)
    (record,) = read_records(tmp_path)
    assert record is not None
    back = record.request()
    assert replace(back, filters=None) == replace(request, filters=None)
    assert changed(engine).answer(back).items == engine.answer(request).items
