import subprocess
import sys

CODE = """
import sys
import boustro
print([name for name in ("datasets", "matplotlib", "evaluate", "rjieba") if name in sys.modules])
"""


def test_import_says_nothing_and_loads_no_more_than_the_model_needs():
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0
    assert (run.stdout.strip(), run.stderr) == ("[]", "")
