"""Training of boustro models: `python train.py --help`, or `boustro.training.run.main(argv)` from Python."""
