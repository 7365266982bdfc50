"""What the shell can do with a trained model: `python -m boustro COMMAND` or `boustro COMMAND`."""
