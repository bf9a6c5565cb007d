"""Where settings come from, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from rapport.settings import SHIPPED_SECRET, ServiceSettings

SHIPPED = f"postgresql://app:{SHIPPED_SECRET}-app@postgres/contacts"
OWN = "postgresql://app:Zz9@postgres/contacts"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return an environment that lacks nothing but the DSN."""
    for name, value in {
        "RAPPORT_ENVIRONMENT": "production",
        "RAPPORT_KAFKA_BOOTSTRAP": "kafka:19092",
        "RAPPORT_PORT": "8000",
        "RAPPORT_OPS_PORT": "9000",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAPPORT_DATABASE_DSN", raising=False)
    monkeypatch.delenv("RAPPORT_CLOCK", raising=False)
    return monkeypatch


def test_secret_from_a_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "dsn"
    secret.write_text(OWN + "\n", encoding="utf-8")
    environment.setenv("RAPPORT_DATABASE_DSN_FILE", str(secret))
    assert ServiceSettings().database_dsn == OWN


def test_variable_counts_more_than_the_file(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.setenv("RAPPORT_DATABASE_DSN_FILE", str(tmp_path / "missing"))
    environment.setenv("RAPPORT_DATABASE_DSN", OWN)
    assert ServiceSettings().database_dsn == OWN


def test_there_is_no_default_dsn(environment: pytest.MonkeyPatch) -> None:
    del environment
    with pytest.raises(ValidationError, match="database_dsn"):
        ServiceSettings()


def test_shipped_secret_is_for_development_only(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RAPPORT_DATABASE_DSN", SHIPPED)
    with pytest.raises(ValidationError, match="shipped with the source"):
        ServiceSettings()
    environment.setenv("RAPPORT_ENVIRONMENT", "development")
    assert ServiceSettings().database_dsn == SHIPPED


def test_a_refusal_does_not_show_the_secret(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RAPPORT_DATABASE_DSN", OWN)
    environment.setenv("RAPPORT_PORT", "none")
    with pytest.raises(ValidationError) as refused:
        ServiceSettings()
    assert "Zz9" not in str(refused.value)
