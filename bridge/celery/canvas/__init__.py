"""Groups, chains and chords: one topic, one progress and one end for all tasks of a canvas.

This package finds the tasks of a canvas when it is started, writes the id of the canvas into a header of
each, and has each task report its start, progress and end to the topic of the canvas. It does not count: the
backend does (`bridge.tasks.canvas`). Open `starting.py` first; `wrap_canvas_classes` is called by `install`.
"""
