"""The monitor: a page that shows all tasks as they run, what it reads, and what its buttons do.

`monitor.py` decides about requests and knows no framework; open it first. The adapters mount it
(`streams.monitor(app, "/monitor")`), and `standalone.py` serves it alone. `page/` has what the browser runs.
Who may read and cancel is decided in `bridge.streams`.
"""
