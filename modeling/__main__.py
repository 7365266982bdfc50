"""`python -m boustro generate runs/demo --prompt "The "`; see `boustro.commands.main`."""

from boustro.commands.main import main

if __name__ == "__main__":
    raise SystemExit(main())
