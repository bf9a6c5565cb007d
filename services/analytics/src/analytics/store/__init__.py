"""All SQL of the analytics service; one function is one statement."""
