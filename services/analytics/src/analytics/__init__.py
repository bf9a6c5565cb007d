"""Rapport analytics."""
