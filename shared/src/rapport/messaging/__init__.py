"""The messaging core: contiguous numbers from outbox to effect. See docs/explanation."""
