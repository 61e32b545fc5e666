"""The compiled part: kernels of the engine, for Linux. Where no compiler is found, zoo is installed without."""

import sys

from setuptools import Extension, setup

KERNELS = Extension(
    "zoo.engine.kernels._library",
    ["zoo/engine/kernels/operator.cpp"],
    depends=["zoo/engine/kernels/products.h"],
    extra_compile_args=["-O3", "-std=c++17", "-fvisibility=hidden"],
    language="c++",
    optional=True,
)

setup(ext_modules=[KERNELS] if sys.platform.startswith("linux") else [])
