"""The service's SQL, one noun per file; every function is one statement over arrays."""
