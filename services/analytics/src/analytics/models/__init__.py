"""Statistical models. numpy and scipy are imported only in a subprocess, never by the service."""
