"""What a shop starts the server with: nothing of it trains, nothing runs as root, nothing is missing."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
UNIT = ROOT / "deploy" / "shortlist.service"
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))["services"]
    return found


def test_the_image_has_the_extras_that_serve_and_none_that_trains() -> None:
    (named,) = re.findall(r"'\.\[([\w,]+)\]'", DOCKERFILE)
    extras = set(named.split(","))
    assert extras >= {"cpu", "serve", "lambdamart"}
    assert extras <= EXTRAS.keys()
    assert not [line for extra in extras for line in EXTRAS[extra] if line.startswith(("torch", "transformers"))]
    assert "-c constraints.txt" in DOCKERFILE


def test_the_image_holds_every_package_and_no_user_is_root() -> None:
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE))
    assert copied == {"retrieval", "indexing", "ranking", "serving", "benchmarks"}
    ignored = (ROOT / ".dockerignore").read_text("utf-8")
    assert all(f"!{name}\n" in ignored for name in copied)
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert users == ["10001:10001"]
    assert DOCKERFILE.index("USER 10001") < DOCKERFILE.index("ENTRYPOINT")
    assert "HEALTHCHECK" in DOCKERFILE


def test_services_give_up_what_they_do_not_need(services: dict[str, Any]) -> None:
    assert {"server", "redis", "prometheus"} <= services.keys()
    for service in services.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    server = services["server"]
    assert server["read_only"]
    assert "--insecure" not in server["command"]
    assert "redis://redis:6379/0" in server["command"]


def test_what_services_mount_of_this_repository_is_there(services: dict[str, Any]) -> None:
    mounted = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])]
    ours = [path for path in mounted if path.startswith(".") and not path.endswith(".key")]
    assert ours
    assert all((ROOT / "deploy" / path).exists() for path in ours)


def test_the_unit_is_hardened_and_waits_for_what_was_accepted() -> None:
    text = UNIT.read_text("utf-8")
    for line in ("User=shortlist", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=\n"):
        assert line in text
    grace = int(re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)[0])
    assert grace > int(re.findall(r"^GRACE = (\d+)", (ROOT / "serving/http/server.py").read_text("utf-8"), re.M)[0])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd on this machine")
def test_systemd_knows_every_line_of_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"/opt/shortlist/bin/shortlist", "/bin/true", UNIT.read_text("utf-8")))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
