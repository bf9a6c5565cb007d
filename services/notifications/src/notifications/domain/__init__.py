"""Pure rules of notifications: who is written to, when, and with which words."""
