"""Each package can be installed by itself: its wheel is complete and needs no other service."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.architecture.rules import ROOT

PACKAGES = {
    "rapport": "shared",
    **{name: f"services/{name}" for name in ("contacts", "loyalty", "notifications", "analytics")},
}
# -S leaves out the links of the editable installs: only what is on the path is there.
IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path[:0] = sys.argv[2:]
package = importlib.import_module(sys.argv[1])
names = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
others = {"contacts", "loyalty", "notifications", "analytics"} - {sys.argv[1]}
assert not others & set(sys.modules), others & set(sys.modules)
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The built and unpacked wheel of each package."""
    unpacked = {}
    for name, folder in PACKAGES.items():
        target = tmp_path_factory.mktemp(name)
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
        subprocess.run(command, cwd=ROOT / folder, check=True, capture_output=True)
        unpacked[name] = target / "unpacked"
        zipfile.ZipFile(next(target.glob("*.whl"))).extractall(unpacked[name])
    return unpacked


@pytest.mark.parametrize("name", PACKAGES)
def test_a_wheel_holds_sql_and_templates_too(name: str, wheels: dict[str, Path]) -> None:
    source = ROOT / PACKAGES[name] / "src"
    expected = {p.relative_to(source) for p in source.rglob("*") if p.is_file()}
    expected = {path for path in expected if "__pycache__" not in path.parts}
    missing = {path for path in expected if not (wheels[name] / path).exists()}
    assert not missing


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_is_importable_without_the_other_services(
    name: str, wheels: dict[str, Path]
) -> None:
    path = [str(wheels[name]), str(wheels["rapport"]), sysconfig.get_path("purelib")]
    command = [sys.executable, "-I", "-S", "-c", IMPORT_ALL, name, *path]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
