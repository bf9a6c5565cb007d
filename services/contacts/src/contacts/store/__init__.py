"""The only SQL of contacts; one function is one statement, lists in and out."""
