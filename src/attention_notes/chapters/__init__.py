"""What chapters use beside the models: data, small trainings, figures, widgets, tables.

What this needs beyond the models is installed by ``pip install "attention-notes[book]"``.
"""
