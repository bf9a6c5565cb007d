"""The events that services exchange: classes, registry and generated documents."""
