"""What the verbs of the command line do and show, each in a module of its own; ``search`` is tune_app.experiment."""
