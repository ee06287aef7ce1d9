"""The service: HTTP in front of the engine. Routes in `native.py` and `gorse.py`, what they call in `service.py`."""
