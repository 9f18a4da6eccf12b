"""Attention, Executed: small, exact implementations of attention papers, and the means to check what is said of them.

Import what you need from where it lives: ``from attention_notes.papers.vit import vit``. A room imports only from
those above it:

    nn              parts that know no paper
    inspect         attention weights, where they lie on an image, counts of parameters, operations, activations
    images          a photograph on its way into a model, and the names of the classes that come out
    weights         other people's weights in our models, and ours in theirs
    papers/<key>    one paper: its model, its facts, and what registers it with the other rooms
    claims          statements, their verdicts, and the records of trainings
    registry        every model by its name, and whether it is what was recorded
    chapters        what only chapters use: data, trainings, figures, widgets, tables
"""
