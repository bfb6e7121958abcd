"""A folder for PYTHONPATH: what stands in it runs inside the recorded program and imports nothing of Tachograph."""
