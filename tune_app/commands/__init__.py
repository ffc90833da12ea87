"""Commands of the command line, each in a module of its own; ``search`` is in tune_app.experiment."""
