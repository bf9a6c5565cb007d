"""`python -m notifications serve|worker|migrate`."""

from notifications.app import main

if __name__ == "__main__":
    main()
