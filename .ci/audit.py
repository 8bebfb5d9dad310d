"""Asks an index of advisories for known vulnerabilities of the pinned packages.

Where none can be reached it says so, and that is no fault: `make check` works without a network.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

PINS = Path(__file__).parent.parent / "constraints.txt"
LONGEST = 300  # seconds
EXCEPTIONS: Mapping[str, str] = {}  # id of an advisory: why it does not concern us


def main() -> int:
    """1 where a package has a known vulnerability that is no exception."""
    with TemporaryDirectory() as folder:
        target = Path(folder) / "audit.json"
        asked = [
            "pip_audit", "--requirement", str(PINS), "--no-deps", "--disable-pip", "--timeout", "10",
            "--progress-spinner", "off", "--format", "json", "--output", str(target),
        ]  # fmt: skip
        try:
            subprocess.run([sys.executable, "-m", *asked], capture_output=True, timeout=LONGEST, check=False)
            packages = json.loads(target.read_text("utf-8"))["dependencies"]
        except (subprocess.TimeoutExpired, OSError, ValueError, KeyError):
            packages = []
    known = [package for package in packages if "vulns" in package]
    if not known:
        print("audit: no index of advisories could be reached, so that nothing was audited", file=sys.stderr)
        return 0
    found = [
        f"{package['name']} {package['version']}: {fault['id']}, mended in {', '.join(fault['fix_versions']) or 'none'}"
        for package in known
        for fault in package["vulns"]
        if not EXCEPTIONS.keys() & {fault["id"], *fault.get("aliases", ())}
    ]
    print("\n".join(found) or f"audit: {len(known)} of {len(packages)} packages, no known vulnerability")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
