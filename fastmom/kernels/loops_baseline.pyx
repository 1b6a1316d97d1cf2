include "loops.pxi"
