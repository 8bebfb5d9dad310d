"""A writer that is killed at any moment leaves a whole release live."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release

KILLS = 8
WRITER = """
import itertools, sys
from pathlib import Path
from indexing.bundle.prune import prune
from indexing.bundle.releases import Release
from indexing.bundle.bundle import Bundle

bundle = Bundle.create(Path(sys.argv[1]))
print("go", flush=True)
last = max((int(one.created) for one in bundle.releases()), default=-1)
for number in itertools.count(last + 1):
    name = f"v{number}"
    with bundle.lock():
        for kind, requires in (("towers", {}), ("index", {"towers": name})):
            with bundle.stage(kind) as folder:
                (folder / "data.bin").write_bytes(f"{kind} {name} ".encode() * 5000)
                (folder / "more").mkdir()
                (folder / "more" / "data.bin").write_bytes(name.encode())
                bundle.add(kind, name, folder, requires=requires)
        print(f"r{number:06d}", flush=True)
        bundle.publish(Release(id=f"r{number:06d}", created=f"{number:06d}", towers=name, index=name))
        if number % 5 == 4:
            bundle.rollback()
    if number % 3 == 2:
        prune(bundle, 2)
"""


def test_a_killed_writer_leaves_a_whole_release_live_and_the_next_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    rng = random.Random(3)
    before: str | None = None
    seen: list[Release] = []
    for _ in range(KILLS):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(1 + rng.randrange(4)):  # kill before the first publication, or around a later one
            assert writer.stdout.readline()
        time.sleep(rng.uniform(0, 0.03))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        bundle = Bundle.open(path)
        live = bundle.current_id()
        if live is None:
            assert before is None  # killed before the first release: none is live, none was
            continue
        release = bundle.current()
        for one in bundle.releases():
            bundle.verify(one.id).require_sound()
        data = (bundle.path_of("index", release.index) / "data.bin").read_bytes()
        assert data == f"index {release.towers} ".encode() * 5000
        seen.append(release)
        before = live
    assert len({release.id for release in seen}) > 2
    Bundle.open(path).activate(Bundle.open(path).releases()[0].id)
    assert list((path / ".staging").iterdir()) == []
