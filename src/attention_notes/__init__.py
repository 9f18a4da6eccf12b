"""Attention, Executed: small, exact implementations of attention papers, and the means to check what is said of them.

Import what you need from where it lives: ``attention_notes.papers.<key>`` holds one paper,
``attention_notes.nn`` what several papers share, and ``claims``, ``probe``, ``plots``, ``data`` and ``train``
serve the chapters of the book.
"""
