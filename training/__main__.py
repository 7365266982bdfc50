"""`python -m boustro.training --config default` is the same as `python train.py --config default`."""

from boustro.training.run import main

if __name__ == "__main__":
    raise SystemExit(main())
