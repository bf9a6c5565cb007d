"""Speed as ratios against a baseline, measured in one run on real Kafka and Postgres."""
