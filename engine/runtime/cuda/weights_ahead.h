// The weights of a recorded step on their way before they are needed: each product asks for those of the next.
#pragma once

#include <cstddef>
#include <vector>

#include "engine/runtime/cuda/device.h"

namespace glimpse::cuda {

/// Launches on their way to a recorder, in the same order. A product of one column (LinearArgs) is held back until the
/// next one comes, whose weights it is told to ask for while it waits or multiplies: so the memory is busy, too, while
/// a step's short launches wait for one another. Experts' weights are not known so early.
class WeightsAhead final : public Launcher {
 public:
  /// More would push out of L2 what was asked for before: half of the 50 MB of GPUs whose launches overlap.
  static constexpr int64_t kMostBytes = 24 << 20;

  explicit WeightsAhead(Launcher& to) : to_(to) {}
  Status launch(Kernel kernel, const LaunchShape& shape, const void* args) override;
  /// Passes on what is held back. The last call.
  Status finish();

 private:
  struct Held {
    Kernel kernel;
    LaunchShape shape;
    std::vector<std::byte> args;
  };
  Launcher& to_;
  std::vector<Held> held_;  // a product, and what came behind it
};

}  // namespace glimpse::cuda
