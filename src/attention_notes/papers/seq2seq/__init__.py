"""Sequence to Sequence Learning with Neural Networks, Sutskever et al. 2014, arXiv 1409.3215."""
