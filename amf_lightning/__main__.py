"""`python -m amf_lightning` is `amf`."""

from amf_lightning.command_line.main import main

if __name__ == "__main__":
    main()
