"""Rapport loyalty."""
