// What this process takes of the machine's memory, and what of it is in use.
#pragma once

#include <cstdint>

namespace glimpse::serve {

struct ProcessMemory {
  uint64_t resident = 0;   // bytes in the machine's memory, files' pages too
  uint64_t heap_held = 0;  // that malloc has from the system
  uint64_t heap_used = 0;  // of those, what the program asked for; the rest is free, in pieces
};

/// Zeros where the system does not say.
ProcessMemory process_memory();

/// For a program that serves many threads for long: they share a few heaps. glibc would make up to eight for each
/// processor, and each keeps free pieces between those in use. Call it before the first thread.
void bound_heaps();

}  // namespace glimpse::serve
