"""The tasks that a trial can learn: one module per task, with all that planning and searching need to know.

Cheap to import (no torch). The module of a task names the class that trains it.
"""
