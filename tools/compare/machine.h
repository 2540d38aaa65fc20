// What else happens on the machine while two programs are compared.
#pragma once

#include <cstdint>
#include <string>

#include "engine/base/result.h"

namespace glimpse::compare {

/// Bytes per second at which n_threads together read memory, best of some passes over more than any cache holds.
/// Errors: kOutOfMemory.
Result<double> probe_bandwidth(int n_threads);

/// CPU time of the whole machine since boot, seconds of all CPUs together; negative where the system does not tell.
double machine_busy_seconds();

std::string cpu_name();

}  // namespace glimpse::compare
