"""Each image holds its own service and nothing else, and runs with next to no rights."""

from __future__ import annotations

import json
import os
import re
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.e2e.containers import HARDENED, docker, inspect

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("contacts", "loyalty", "notifications", "analytics")
OURS = (*SERVICES, "sink")
EXCLUSIVE = {"notifications": ("aiosmtpd", "aiosmtplib", "jinja2"), "analytics": ("numpy", "scipy")}
IMPORT = """
import importlib, json, sys
failed = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        failed += [name] if error.name == name else []
print(json.dumps(failed))
"""
INSTALLED = """
import importlib.metadata as m, json
print(json.dumps(sorted(d.name.lower().replace("_", "-") for d in m.distributions())))
"""
BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE")
KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\n")
ENVIRONMENT = {
    *("PATH", "LANG", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"),
    *("RAPPORT_BIND", "RAPPORT_PORT", "RAPPORT_OPS_PORT", "RAPPORT_HEALTH_PATH"),
}
PUBLIC_BASE = {"GPG_KEY", "PYTHON_VERSION", "PYTHON_SHA256"}

pytestmark = pytest.mark.usefixtures("images")


def image_of(name: str) -> str:
    return f"rapport/{name}:{os.environ.get('RAPPORT_IMAGE_TAG') or 'local'}"


def python(name: str, code: str, *arguments: str) -> str:
    """Run Python in an image, hardened as in production."""
    image = image_of(name)
    return docker("run", "--rm", *HARDENED, "--entrypoint", "python", image, "-c", code, *arguments)


@pytest.mark.parametrize("service", SERVICES)
def test_other_services_and_what_only_they_need_are_missing(service: str) -> None:
    others = [other for other in SERVICES if other != service]
    foreign = [*others, *(name for other in others for name in EXCLUSIVE.get(other, ()))]
    assert json.loads(python(service, IMPORT, *foreign)) == foreign
    own = [service, "rapport", *EXCLUSIVE.get(service, ())]
    assert json.loads(python(service, IMPORT, *own)) == []


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_is_installed_that_is_not_locked(service: str) -> None:
    lock = (ROOT / "requirements" / f"{service}.lock").read_text(encoding="utf-8")
    locked = {name.lower() for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    installed = set(json.loads(python(service, INSTALLED)))
    assert installed - locked == {"rapport-shared", f"rapport-{service}"}


@pytest.mark.parametrize("name", OURS)
def test_runs_as_nobody_in_particular(name: str) -> None:
    assert int(inspect(image_of(name))["Config"]["User"].split(":")[0]) >= 10_000
    assert int(python(name, "import os; print(os.getuid())")) >= 10_000


@pytest.mark.parametrize("name", OURS)
def test_labels_health_and_exec_form(name: str) -> None:
    service = "notifications" if name == "sink" else name
    project = ROOT / "services" / service / "pyproject.toml"
    config = inspect(image_of(name))["Config"]
    labels = {
        key.removeprefix("org.opencontainers.image."): v for key, v in config["Labels"].items()
    }
    assert labels["title"] == f"rapport-{name}"
    assert labels["version"] == tomllib.loads(project.read_text())["project"]["version"]
    assert re.fullmatch(r"[0-9a-f]{40}|unknown", labels["revision"])
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config["Entrypoint"][0] in {"service", "python"}


@pytest.mark.parametrize("service", SERVICES)
def test_command_line_is_there(service: str) -> None:
    said = docker("run", "--rm", *HARDENED, "--entrypoint", "rapport", image_of(service), "--help")
    assert "reconcile" in said


@pytest.mark.parametrize("name", OURS)
def test_no_secret_and_nothing_of_the_builder_is_in_any_layer(name: str, tmp_path: Path) -> None:
    """The builder's certificates and package index, keys, and what only the build needs."""
    config = inspect(image_of(name))["Config"]
    assert {item.split("=")[0] for item in config["Env"]} - PUBLIC_BASE <= ENVIRONMENT
    bundles = {Path(os.environ[b]).read_bytes() for b in BUNDLES if os.environ.get(b)}
    index = os.environ.get("PIP_INDEX_URL", "").encode()
    assert not index or index not in docker("history", "--no-trunc", image_of(name)).encode()
    for path, content in files_of(image_of(name), tmp_path):
        assert not path.startswith("build/"), path
        assert Path(path).name != "certificates.crt"
        assert content not in bundles, f"{path} is the builder's certificate bundle"
        assert not KEY.search(content), f"{path} holds a private key"
        assert not index or index not in content, f"{path} names the package index"


def files_of(image: str, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of every file in every layer of an image."""
    archive = folder / "image.tar"
    docker("save", "--output", str(archive), image)
    with tarfile.open(archive) as saved:
        for name in json.load(_member(saved, "manifest.json"))[0]["Layers"]:
            with tarfile.open(fileobj=_member(saved, name)) as layer:
                for member in layer:
                    if member.isfile() and (file := layer.extractfile(member)) is not None:
                        yield member.name.removeprefix("./"), file.read()
    archive.unlink()


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    assert found is not None, f"docker saved no {name}"
    return found
