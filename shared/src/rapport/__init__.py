"""Rapport's shared package: contracts, messaging core and what every service needs."""
