"""`python -m amf_lightning` is `amf`."""

from amf_lightning.cli import main

if __name__ == "__main__":
    main()
