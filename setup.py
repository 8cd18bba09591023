"""Build the compiled modules: a Cython module per operation, and the C kernels per dtype and instruction set."""

import json
import os
import re
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError, LinkError

MODULES = (
    "dispatch", "program", "conv2d", "winograd", "conv_pool", "pool2d", "dense", "latent", "losses", "bounds",
    "elementwise", "pixelwise", "optimizers", "upsample2d", "normalization", "condition",
)  # fmt: skip
HEADERS = [
    "csrc/arithmetic.h", "csrc/claim.h", "csrc/forks.h", "csrc/kernels/kernels.h", "csrc/kernels/kernel_list.h",
]  # fmt: skip
INTERFACE = [*sorted(str(path) for path in Path("csrc").glob("*.pxd")), *HEADERS]
KERNELS = ["csrc/cpu.h", *sorted(str(path) for path in Path("csrc/kernels").iterdir())]
WARNINGS = ["-Wall", "-Wextra"]
# Against -Ofast and -ffast-math in CFLAGS: NaN must stay NaN, and linking with them would have the import change the
# floating-point mode of the process.
EXACT = ["-O3", "-fno-fast-math", "-fno-unsafe-math-optimizations", "-fno-finite-math-only"]
# The other -fno flags neither change results nor affect other code: sqrt need not set errno, and comparisons need not
# trap.
FLAGS = [*EXACT, "-g0", "-std=gnu11", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math"]
X86_FLAGS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
}


X86_PROBE = """
#if !defined(__x86_64__) || defined(__ILP32__)
#error "not x86-64"
#endif
"""
C_PROBE = "int probe;\n"
OPENMP_PROBE = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"


class BuildExt(build_ext):
    """Compile in parallel, with OpenMP if the compiler supports it, and the kernels once per instruction set."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self) -> None:
        self.gnu = self.compiler.compiler_type != "msvc"
        if not self.can_build(C_PROBE):
            command = " ".join(getattr(self.compiler, "compiler_so", [])[:1])
            sys.exit(f"cvae: building needs a C compiler, such as GCC or Clang, and {command!r} compiles nothing")
        # Asked of the compiler, as it may compile for another machine, or for several.
        x86 = self.gnu and self.can_build(X86_PROBE)
        self.variants = X86_FLAGS if x86 else {"baseline": []}
        openmp = self.find_openmp()
        for extension in self.extensions:
            extension.extra_compile_args += ([*FLAGS, *WARNINGS] if self.gnu else ["/O2", "/std:c11"]) + openmp
            extension.extra_link_args += [*EXACT, *openmp] if self.gnu else []
            if x86:
                extension.define_macros.append(("CVAE_X86_VARIANTS", "1"))
        place = "source" if self.inplace or self.editable_mode else Path(self.build_lib).name
        base = self.get_finalized_command("build").build_base
        # Not in the folder for temporary files, which is another one at each editable installation.
        stamp, made_with = Path(base, f"made_with.{place}.json"), self.made_with()
        if not stamp.is_file() or stamp.read_text() != made_with:
            self.force = True
            stamp.unlink(missing_ok=True)  # until all is built
        super().build_extensions()
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(made_with)

    def made_with(self) -> str:
        """Return what objects depend on besides their sources: the compiler, and the user's flags and those above."""
        commands = [getattr(self.compiler, name, None) for name in ("compiler_so", "linker_so", "macros")]
        modules = {
            module.name: [module.extra_compile_args, module.extra_link_args, module.define_macros]
            for module in self.extensions
        }
        return json.dumps([commands, bool(self.debug), self.variants, modules])

    def build_extension(self, extension: Extension) -> None:
        """Build a module; the dispatch module also links the kernels' objects."""
        from setuptools.modified import newer_group  # which versions before those that are needed lack

        target = self.get_ext_fullpath(extension.name)
        if self.force or newer_group([*extension.sources, *extension.depends], target, "newer"):
            if extension.name.endswith(".dispatch"):
                with ThreadPoolExecutor(self.parallel) as pool:
                    jobs = [(isa, double) for isa in self.variants for double in (0, 1)]
                    extension.extra_objects = list(pool.map(lambda job: self.compile_variant(*job), jobs))
            super().build_extension(extension)

    def compile_variant(self, isa: str, double: int) -> str:
        """Compile kernels/variant.c for an instruction set and a dtype, and return the object file's name."""
        folder = os.path.join(self.build_temp, f"{isa}_{'f64' if double else 'f32'}")
        macros = [("CVAE_ISA", isa), ("CVAE_DOUBLE", str(double))]
        flags = [*FLAGS, *WARNINGS, *self.variants[isa]] if self.gnu else ["/O2", "/std:c11"]
        (name,) = self.compiler.compile(
            ["csrc/kernels/variant.c"], output_dir=folder, macros=macros, extra_postargs=flags
        )
        return name

    def find_openmp(self) -> list[str]:
        """Return the compiler's OpenMP flag if a program that uses OpenMP links, otherwise no flag."""
        flags = ["-fopenmp"] if self.gnu else ["/openmp"]
        if not self.can_build(OPENMP_PROBE, flags, link_flags=flags if self.gnu else []):
            print("cvae: the compiler does not support OpenMP, so the kernels will use one thread", file=sys.stderr)
            return []
        return flags

    def can_build(self, text: str, flags: Sequence[str] = (), link_flags: Sequence[str] | None = None) -> bool:
        """Return whether the compiler takes a program, and can link it unless `link_flags` is None."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(text)
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=[*flags])
                if link_flags is not None:
                    self.compiler.link_executable(objects, "probe", output_dir=folder, extra_postargs=[*link_flags])
            except (CompileError, LinkError):
                return False
        return True


class BuildPy(build_py):
    """Leave nothing in the build folder that the source has no longer: all that is there goes into the wheel."""

    def run(self) -> None:
        if not self.editable_mode and Path(self.build_lib).resolve() != Path(__file__).resolve().parent:
            compiled = self.get_finalized_command("build_ext").get_outputs()
            wanted = {Path(name) for name in [*self.get_outputs(), *compiled]}
            for path in Path(self.build_lib, "cvae").rglob("*"):
                if path.is_file() and path not in wanted:
                    path.unlink()
        super().run()


def check_requirements(requirements: Sequence[str]) -> None:
    """Exit unless what the build requires is there, which nobody has installed with --no-build-isolation."""
    for requirement in requirements:
        name, _, needed = requirement.partition(">=")
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "none"
        if [*map(int, re.findall("[0-9]+", found))] < [*map(int, needed.split("."))]:
            sys.exit(f"cvae: building needs {name} {needed} or newer, found {found}")


def has_limited_api() -> bool:
    """Return whether the interpreter has the limited API, with which one wheel serves all versions."""
    return not sysconfig.get_config_var("Py_GIL_DISABLED")


def extension(name: str, *, limited: bool) -> Extension:
    """Return the module of an operation."""
    return Extension(
        f"cvae._kernels.{name}",
        [f"csrc/{name}.pyx"],
        include_dirs=["csrc"],
        depends=[*INTERFACE, *KERNELS] if name == "dispatch" else INTERFACE,
        py_limited_api=limited,
        define_macros=[("Py_LIMITED_API", "0x030B0000")] if limited else [],
    )


def description(readme: str) -> str:
    """Return the README for a package index, where what it links to by relative paths is not: without these.

    What makes no sense without them is between the comments "<!-- repository -->" and "<!-- end -->".
    """
    text = re.sub(r"<!-- repository -->.*?<!-- end -->\n*", "", readme, flags=re.DOTALL)
    without_pictures = re.sub(r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n*", "", text)
    return re.sub(r"\[([^\]]*)\]\((?!https?:|#)[^)]*\)", r"\1", without_pictures)


def main() -> None:
    check_requirements(tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"])
    from Cython.Build import cythonize

    limited = has_limited_api()
    setup(
        long_description=description(Path("README.md").read_text(encoding="utf-8")),
        long_description_content_type="text/markdown",
        ext_modules=cythonize(
            [extension(name, limited=limited) for name in MODULES],
            build_dir="build/cython",
            include_path=["csrc"],
            compiler_directives={
                "language_level": 3,
                "boundscheck": False,
                "wraparound": False,
                "cdivision": True,
                "initializedcheck": False,
                "nonecheck": False,
                "freethreading_compatible": False,
            },
        ),
        cmdclass={"build_ext": BuildExt, "build_py": BuildPy},
        options={"bdist_wheel": {"py_limited_api": "cp311"}} if limited else {},
    )


if __name__ == "__main__":
    main()
