"""`python -m contacts`."""

from contacts.app import main

main()
