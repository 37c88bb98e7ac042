"""`python -m amf_lightning.experts.training` says where it went."""

from amf_lightning.errors import moved

if __name__ == "__main__":
    moved("train-expert")
