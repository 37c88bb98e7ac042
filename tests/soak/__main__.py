"""`python -m soak`: tries to make the program lose something, and prints what it could not."""

from soak.command import main

if __name__ == "__main__":
    main()
