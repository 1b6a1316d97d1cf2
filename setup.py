"""Build of the compiled modules; everything else is in pyproject.toml.

FASTMOM_NO_OPENMP=1 builds without OpenMP; so does a compiler that lacks it.
"""

import os
import platform
import tempfile
from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

KERNELS = Path("fastmom/kernels")

# Contraction is off so that every instruction set gives the same bits; no flag may change
# floating-point semantics of the host program (-ffast-math and -Ofast do). `errno` and traps
# only keep sqrt and selects from vectorising.
GNU = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]
FLAGS = {"gnu": GNU, "msvc": ["/O2", "/fp:precise"]}

# The compiler flags per instruction-set build of the rules. AArch64 has NEON in its baseline.
ISA = {
    "baseline": {"gnu": [], "msvc": []},
    "avx2": {"gnu": ["-mavx2", "-mfma"], "msvc": ["/arch:AVX2"]},
    "avx512": {"gnu": ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw",
                       "-mprefer-vector-width=512"],
               "msvc": ["/arch:AVX512"]},
}
IS_X86 = platform.machine().lower() in ("x86_64", "amd64")

# Compile and link flags to try in turn; Apple clang has no OpenMP driver flag of its own.
OPENMP = {
    "gnu": [(["-fopenmp"], ["-fopenmp"]),
            (["-Xpreprocessor", "-fopenmp"], ["-lomp"])],
    "msvc": [(["/openmp"], [])],
}
PROBE = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"

DIRECTIVES = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True,
              "initializedcheck": False, "embedsignature": True}


class Build(build_ext):
    """Adds the flags that depend on the compiler."""

    def build_extensions(self):
        kind = "msvc" if self.compiler.compiler_type == "msvc" else "gnu"
        compile_openmp, link_openmp = self.find_openmp(kind)
        for extension in self.extensions:
            module = extension.name.rpartition(".")[2]
            isa = module.rpartition("_")[2]
            extension.extra_compile_args = FLAGS[kind] + ISA.get(isa, {}).get(kind, [])
            if module in ("team", "system"):
                extension.extra_compile_args += compile_openmp
                extension.extra_link_args = link_openmp
        self.parallel = self.parallel or os.cpu_count()
        super().build_extensions()

    def find_openmp(self, kind):
        """The first flags that compile and link a program with OpenMP, or none."""
        if os.environ.get("FASTMOM_NO_OPENMP", "0") not in ("", "0"):
            return [], []
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(PROBE)
            for compile_args, link_args in OPENMP[kind]:
                try:
                    objects = self.compiler.compile([str(source)], output_dir=folder,
                                                    extra_postargs=compile_args)
                    self.compiler.link_executable(objects, str(Path(folder, "probe")),
                                                  extra_postargs=link_args)
                    return compile_args, link_args
                except (CompileError, LinkError):
                    continue
        print("fastmom: no OpenMP found; the kernels will run on one thread")
        return [], []


def modules():
    """Every .pyx below the kernels, less the instruction sets of other processors."""
    for source in sorted(KERNELS.glob("*.pyx")):
        isa = source.stem.rpartition("_")[2]
        if isa in ISA and isa != "baseline" and not IS_X86:
            continue
        yield Extension(f"fastmom.kernels.{source.stem}", [str(source)],
                        language="c++" if isa in ISA else "c",
                        include_dirs=[str(KERNELS), np.get_include()],
                        depends=sorted(str(file) for suffix in ("pxd", "pxi", "h")
                                       for file in KERNELS.glob(f"*.{suffix}")),
                        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")])


setup(ext_modules=cythonize(list(modules()), build_dir="build/cython",
                            compiler_directives=DIRECTIVES),
      cmdclass={"build_ext": Build})
