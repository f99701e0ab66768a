"""`python -m training NAME`, the form that torchrun starts."""

import sys

from training.cli import main

sys.exit(main())
