"""Pure rules of the analytics service."""
