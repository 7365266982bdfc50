"""`python -m boustro.training --config small` is the same as `python train.py --config small`."""

from boustro.training.run import main

if __name__ == "__main__":
    raise SystemExit(main())
