// Attributes of SIMD helpers. A helper that is always inlined leaves no copy behind that the linker could share with
// code for weaker CPUs. Macros only: read by ISA-specific files.
#pragma once

#define GLIMPSE_INLINE inline __attribute__((always_inline))
#define GLIMPSE_INLINE_LAMBDA __attribute__((always_inline))
