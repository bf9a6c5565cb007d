"""Pure rules of contacts: no I/O."""
