"""Settings of the loyalty service; the programme's parameters are data, not settings."""

from rapport.settings import ServiceSettings


class Settings(ServiceSettings):
    """What every service has, on this service's own ports."""

    port: int = 8002
    ops_port: int = 9002
