"""Which images the containers of a test are made of."""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict


class Images(BaseSettings):
    """Read from `RAPPORT_KAFKA_IMAGE`, `RAPPORT_POSTGRES_IMAGE` and `RAPPORT_IMAGE_TAG`.

    Unset, they are what `make images` builds; `apache/kafka:4.3.1` and `postgres:18.4` do as well.
    """

    model_config = SettingsConfigDict(
        env_prefix="RAPPORT_", env_ignore_empty=True, frozen=True, extra="ignore"
    )
    kafka_image: str = "rapport/kafka:4.3.1"
    postgres_image: str = "rapport/postgres:17"
    image_tag: str = "local"

    def of(self, name: str) -> str:
        """Return the image of a service, or of the `sink`."""
        return f"rapport/{name}:{self.image_tag}"
