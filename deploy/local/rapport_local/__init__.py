"""The embedded runtime: real Postgres, real Kafka and the four services on one machine, without containers."""
