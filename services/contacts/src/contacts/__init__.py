"""Rapport contacts."""
