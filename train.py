"""Trains a boustro model; the samples, figures and the model itself end up in the output folder.

    python train.py                                             # the default recipe, on the embedded corpus
    python train.py --train-file book.txt --max-minutes 10 --output-dir runs/book
    python train.py --config documents --train-file names.txt --output-dir runs/names
    python train.py --config my_recipe.yaml --learning-rate 1e-3
    python train.py --output-dir runs/book --resume             # after Ctrl-C
    python train.py --checkpoint runs/book --train-file more.txt --output-dir runs/more
    torchrun --standalone --nproc_per_node 2 train.py           # several GPUs
    torchrun --standalone --nproc_per_node 2 train.py --cpu     # several processes of a CPU
    python train.py --help

With the package installed, `boustro-train` and `python -m boustro.training` are the same command.
"""

from boustro.training.run import main

if __name__ == "__main__":
    raise SystemExit(main())
