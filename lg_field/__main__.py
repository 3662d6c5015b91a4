"""`python -m lg_field` is `lg-field`."""

from lg_field.cli import main

if __name__ == "__main__":
    main()
