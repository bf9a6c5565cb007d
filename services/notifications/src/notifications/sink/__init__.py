"""A mail server for development and tests: keeps every mail, and misbehaves on demand."""
