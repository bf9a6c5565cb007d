"""The demo: real purchases go through the four services, and every total is checked."""
