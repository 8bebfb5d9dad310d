"""A data set: a folder of parquet files in the contract of `retrieval.data.schema`, validated, as columns."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from retrieval.data.audit import FileAudit
from retrieval.data.check_report import CheckReport, FileReport
from retrieval.data.column_names import file_renames
from retrieval.data.events import EventReader, Events
from retrieval.data.facts import facts_of, notes_on
from retrieval.data.items import read_items
from retrieval.data.judgements import SPLITS, Judgements, Queries, read_judgements, read_queries
from retrieval.data.recorded import NEVER, RecordedEvents
from retrieval.data.rejected import RejectedRows, shown
from retrieval.data.relations import Relations, read_relations
from retrieval.data.schema import CONTRACT, EVENTS, ITEMS, JUDGEMENTS, QUERIES, RELATIONS, open_source
from retrieval.data.time_units import DAY
from retrieval.errors import BadConfig, BadData
from retrieval.fingerprint import file_sha256, fingerprint
from retrieval.text.analysis import Language, language_of
from retrieval.text.descriptions import with_boilerplate

RECORDED = "recorded events"  # beside the files of a data set

__all__ = ["SPLITS", "DataSet", "Events", "Judgements", "Queries", "check", "load"]


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The usable contents of a data set.

    `items` is in file order: its row r is the item `item_ids[r]`; its schema records the sentences that descriptions
    share, which are not rendered. `language` is that of their titles. `user_ids` are the users of events and queries,
    sorted, so that the order of rows has no meaning. `fingerprint` identifies the contents of the files, and of the
    recorded events that were read beside them.
    """

    items: pa.Table
    item_ids: tuple[str, ...]
    user_ids: tuple[str, ...]
    events: Events | None
    queries: Queries | None
    judgements: Judgements | None
    relations: Relations | None = None
    report: CheckReport
    fingerprint: str
    language: Language
    recorded: RecordedEvents | None = None  # what was read beside the files

    @property
    def n_items(self) -> int:
        """The number of items."""
        return len(self.item_ids)

    @property
    def n_users(self) -> int:
        """The number of users of events and queries."""
        return len(self.user_ids)

    @property
    def has_recommend(self) -> bool:
        """Whether there are events, which recommendation learns from."""
        return self.events is not None

    @property
    def has_search(self) -> bool:
        """Whether there are judged queries, which search learns from."""
        return self.judgements is not None


def load(
    folder: Path | str,
    *,
    max_bad: float = 0.01,
    max_unknown: float = 0.10,
    rejected: Path | None = None,
    now: datetime | None = None,
    require_interactions: bool = True,
    recorded: RecordedEvents | None = None,
) -> DataSet:
    """Read and validate the data set in `folder`.

    Args:
        max_bad: the largest share of a file's rows that may break a rule; they are set aside, or lose the value.
        max_unknown: the largest share of events and of judgements that may name an unknown item or query.
        rejected: the parquet file to write rows to that broke a rule; written only if there are any.
        now: events more than a day later are refused; the current time by default, UTC where it has no zone.
        require_interactions: refuse a catalogue without events or judgements.
        recorded: events to read beside those of events.parquet, but for those that it holds already, and users whose
            events are left out of both.

    Raises:
        BadData: a file breaks the contract; one line that says which, where, and what to do. Nothing is written.
        BadConfig: a limit is not between 0 and 1, or `rejected` cannot be written.
    """
    with RejectedRows(rejected) as aside:
        reading = _Reading(Path(folder), max_bad, max_unknown, _latest(now), aside, recorded)
        dataset = reading.read(require_interactions)
        dataset.report.raise_if_refused()
    return dataset


def check(
    folder: Path | str,
    *,
    max_bad: float = 0.01,
    max_unknown: float = 0.10,
    now: datetime | None = None,
    require_interactions: bool = True,
) -> CheckReport:
    """Validates the data set in `folder` and reports what it holds and what is wrong, also beyond the limits.

    Arguments as those of `load`.

    Raises:
        BadData: a structural fault, such as a missing column, after which nothing can be counted.
        BadConfig: a limit is not between 0 and 1.
    """
    with RejectedRows(None) as aside:
        return _Reading(Path(folder), max_bad, max_unknown, _latest(now), aside).read(require_interactions).report


def _latest(now: datetime | None) -> int:
    """The last plausible time of an event, in microseconds since 1970."""
    moment = now or datetime.now(UTC)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000_000) + DAY


class _Reading:
    """One pass over a folder's files, each after those that it refers to."""

    def __init__(
        self,
        folder: Path,
        max_bad: float,
        max_unknown: float,
        latest: int,
        aside: RejectedRows,
        recorded: RecordedEvents | None = None,
    ) -> None:
        for name, limit in (("max_bad", max_bad), ("max_unknown", max_unknown)):
            if not 0 <= limit <= 1:
                raise BadConfig(f"{name} is {limit}; give a share between 0 and 1, such as 0.01 for 1 %")
        self.folder = folder
        self.max_bad, self.max_unknown = max_bad, max_unknown
        self.latest = latest
        self.aside = aside
        self.recorded = recorded
        self.files: list[FileReport] = []

    def read(self, require_interactions: bool) -> DataSet:
        names = self._present(require_interactions)
        audits = {name: self._audit(name) for name in names}
        items = with_boilerplate(read_items(audits[ITEMS]))
        item_ids = tuple(items["item_id"].to_pylist())
        for name in (EVENTS, JUDGEMENTS, RELATIONS):
            if name in audits and item_ids:
                audits[name].known_id = shown(item_ids[0])
        reader = EventReader(item_ids)
        if EVENTS in audits:
            reader.read(audits[EVENTS], self.latest)
        told = self._read_recorded(reader, audits)
        queries = read_queries(audits[QUERIES], reader.users) if QUERIES in audits else None
        judgements = read_judgements(audits[JUDGEMENTS], item_ids, queries.ids) if queries else None
        relations = read_relations(audits[RELATIONS], item_ids) if RELATIONS in audits else None
        user_ids, language = self._user_ids(reader), language_of(items["title"].to_pylist())
        events = reader.events(user_ids) if audits.keys() & {EVENTS, RECORDED} else None
        if queries is not None:
            queries = replace(queries, user=reader.users.recoded(user_ids)[queries.user])
        return DataSet(
            items=items,
            item_ids=item_ids,
            user_ids=user_ids,
            events=events,
            queries=queries,
            judgements=judgements,
            relations=relations,
            report=CheckReport(
                folder=str(self.folder),
                files=tuple(audit.report() for audit in audits.values()),
                facts=facts_of(len(item_ids), len(user_ids), events, queries, judgements, relations, language),
                notes=(*notes_on(self.folder, items, events), *told),
            ),
            language=language,
            fingerprint=self._fingerprint(names),
            recorded=self.recorded,
        )

    def _read_recorded(self, reader: EventReader, audits: dict[str, FileAudit]) -> list[str]:
        """Reads what was recorded beside the files, and leaves out what forgotten users did; returns notes on it."""
        if self.recorded is None:
            return []
        source, notes = self.recorded.source, []
        if source is not None:
            audits[RECORDED] = FileAudit(source=source, max_bad=math.inf, max_unknown=math.inf, rejected=self.aside)
            held = reader.read_recorded(audits[RECORDED], self.latest)
            notes += [f"{held:,} recorded events are in {EVENTS} already, and count once"] * bool(held)
        gone = reader.leave_out(self.recorded.forgotten_at(list(reader.users.codes)))
        return notes + [f"{gone:,} events of users who are to be forgotten are left out"] * bool(gone)

    def _user_ids(self, reader: EventReader) -> tuple[str, ...]:
        """The users, sorted, without those who are forgotten and did nothing since."""
        names = list(reader.users.codes)
        if self.recorded is not None:
            forgotten, active = self.recorded.forgotten_at(names) != NEVER, reader.users_with_events()
            names = [name for code, name in enumerate(names) if not forgotten[code] or code in active]
        return tuple(sorted(names))

    def _fingerprint(self, names: list[str]) -> str:
        """Of the contents of the files, and of what was recorded."""
        files = {name: file_sha256(self.folder / name) for name in names}
        return fingerprint(files if self.recorded is None else files | {RECORDED: self.recorded.fingerprint})

    def _present(self, require_interactions: bool) -> list[str]:
        """The files that exist, in the order of `CONTRACT`. Raises BadData where they do not make a data set."""
        try:
            is_folder = self.folder.is_dir()
            names = [name for name in CONTRACT if (self.folder / name).exists()]
        except PermissionError as error:
            raise BadData(f"{self.folder}: cannot be read ({error.strerror}); let this user read the folder") from error
        if not is_folder:
            raise BadData(f"{self.folder}: no such folder; name the folder that holds {ITEMS}")
        found = ", ".join(sorted(path.name for path in self.folder.glob("*.parquet"))) or "no parquet file"
        if ITEMS not in names:
            raise BadData(f"{self.folder}: has no {ITEMS} (item_id, title); it holds {found}{self._meant(ITEMS)}")
        for one, other in ((QUERIES, JUDGEMENTS), (JUDGEMENTS, QUERIES)):
            if one in names and other not in names:
                raise BadData(f"{self.folder}: has {one} but no {other}; add it, or take {one} away")
        recorded = self.recorded is not None and self.recorded.source is not None
        if require_interactions and not recorded and not {EVENTS, QUERIES}.intersection(names):
            raise BadData(
                f"{self.folder}: has neither {EVENTS} nor {QUERIES} with {JUDGEMENTS}, nothing to learn from or to "
                f"measure with; it holds {found}{self._meant(EVENTS)}"
            )
        return names

    def _meant(self, missing: str) -> str:
        """Advice on which file of the folder may be `missing`; empty where none looks like it."""
        others = sorted(path.name for path in self.folder.iterdir() if path.is_file() and path.name not in CONTRACT)
        meant = file_renames(missing, [name for name in others if name.endswith(".parquet")])
        if meant is not None:
            return f"; rename {meant} to {missing} if it is that"
        export = file_renames(missing, others)
        return "" if export is None else f"; convert {export}: shortlist import {self.folder / export} --out FOLDER"

    def _audit(self, name: str) -> FileAudit:
        source = open_source(self.folder, name)
        return FileAudit(source=source, max_bad=self.max_bad, max_unknown=self.max_unknown, rejected=self.aside)
