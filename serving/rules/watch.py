"""Follows a rules file: what it says answers within half a second, and what cannot be used changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from indexing.version.index_version import IndexVersion
from retrieval.errors import BadConfig
from retrieval.text.analysis import Analyzer
from serving.rules.compiled import CompiledRules
from serving.rules.load import read_rules

RULES_FILE = "rules.toml"  # in the folder of a bundle
Stamp: TypeAlias = tuple[int, int, int] | None  # time of the last change, size and inode; None: there is no file

log = logging.getLogger(__name__)


@dataclass
class RulesWatch:
    """The rules in force of a file that may change, and what is wrong with it now.

    `required`: whether the file has to be there; else none in force where there is none. `now` tells seconds since
    1970. `error` is empty while the file is sound.
    """

    path: Path
    required: bool
    now: Callable[[], float]
    error: str = ""
    _stamp: Stamp = None
    _rules: CompiledRules | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls,
        path: Path,
        version: IndexVersion,
        analyzer: Analyzer,
        *,
        required: bool,
        now: Callable[[], float],
    ) -> RulesWatch:
        """Reads the file over an index version. Raises BadConfig, with all faults, where it cannot be used."""
        watch = cls(path, required, now)
        watch._stamp = _stamp(path)
        watch._rules = watch._read(version, analyzer)
        return watch

    def over(self, version: IndexVersion, analyzer: Analyzer) -> CompiledRules | None:
        """The rules in force over an index version; None without any. Raises BadRules where they do not fit it."""
        rules = self._rules
        if rules is None or rules.version is version:
            return rules
        return CompiledRules.of(rules.ruleset, version, analyzer, self.now)

    def poll(self, version: IndexVersion, analyzer: Analyzer, answering: CompiledRules | None) -> CompiledRules | None:
        """The rules in force over an index version, after a look at the file: what it said before where what it says
        now cannot be used, which `error` and the log tell. `answering` are those that answer now over that version."""
        stamp = _stamp(self.path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._rules, self.error = self._read(version, analyzer), ""
            except BadConfig as error:
                self.error = str(error)
                log.warning("%s; the rules read before stay in force", error)
        if answering is not None and self._rules is not None and answering.ruleset is self._rules.ruleset:
            self._rules = answering
        self._rules = self.over(version, analyzer)
        return self._rules

    def _read(self, version: IndexVersion, analyzer: Analyzer) -> CompiledRules | None:
        if self._stamp is None and not self.required:
            return None
        rules = CompiledRules.of(read_rules(self.path), version, analyzer, self.now)
        log.info("rules %s of %s are in force", rules.ruleset.version, self.path)
        return rules


def _stamp(path: Path) -> Stamp:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino
