"""The embedded runtime: real Postgres, real Kafka and four services, without containers."""
