"""`python -m tools.verify`"""

import sys

from tools.verify.command import main

sys.exit(main())
