// The loops that measure what a core can do: one file per instruction set, chosen by suffix. Included by files that are
// compiled for one instruction set: declarations only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace glimpse::bench {

/// Reads n_bytes (a multiple of 1024, 64-byte aligned) once; returns something that depends on every byte.
using ReadFn = uint64_t (*)(const std::byte* data, size_t n_bytes);
uint64_t read_bytes_ref(const std::byte* data, size_t n_bytes);
uint64_t read_bytes_avx2(const std::byte* data, size_t n_bytes);
uint64_t read_bytes_avx512(const std::byte* data, size_t n_bytes);

/// Runs one multiply-accumulate instruction on registers, in enough independent chains to hide its latency;
/// `operations` counts multiplications and additions, and the loop is repeated until at least that many are done.
/// Returns the number done; *sink gets a result, so that the loop cannot be left out.
using RateFn = double (*)(double operations, float* sink);
double fma_rate_ref(double operations, float* sink);          // mulps, addps: what baseline x86-64 has
double fma_rate_avx2(double operations, float* sink);         // vfmadd231ps ymm
double fma_rate_avx512(double operations, float* sink);       // vfmadd231ps zmm
double int8_rate_avx2(double operations, float* sink);        // vpmaddubsw, vpaddw ymm
double int8_rate_avxvnni(double operations, float* sink);     // vpdpbusd ymm
double int8_rate_avx512vnni(double operations, float* sink);  // vpdpbusd zmm
double bf16_rate_avx512bf16(double operations, float* sink);  // vdpbf16ps zmm

}  // namespace glimpse::bench
