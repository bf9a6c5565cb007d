"""`python -m analytics serve | worker | migrate`."""

from analytics.app import main

if __name__ == "__main__":
    main()
