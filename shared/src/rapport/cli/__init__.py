"""The command line `rapport`: one module per noun."""
