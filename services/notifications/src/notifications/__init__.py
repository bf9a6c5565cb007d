"""Rapport notifications."""
